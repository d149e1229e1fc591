"""What a capture tells of its run is checked before any of it is used."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import save_checkpoint
from footplate.config import Config
from footplate.engine import Runner
from footplate.errors import ArgumentError, NonFiniteError
from footplate.tools.replay import read_facts, replay
from tests.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.support import settings
from tests.tools.bursting import BurstingModel

FACTS = {
    "iteration": 7,
    "message": "the loss has been nan since iteration 7",
    "origin": None,
    "load_from": None,
    "seed": 1,
    "world_size": 1,
    "device": "cpu",
    "threads": 1,
    "torch": "2.9.0",
}
A_TEXT = "a string of at most 65536 characters"


def _capture(tmp_path: Path, facts: Any) -> str:
    path = tmp_path / "nonfinite_iter_7.capture"
    save_checkpoint({"capture": facts}, path)
    return str(path)


def test_the_facts_of_a_capture_are_returned(tmp_path: Path) -> None:
    assert read_facts(_capture(tmp_path, {**FACTS, "more": [1]})) == {**FACTS, "more": [1]}


@pytest.mark.parametrize("key", FACTS)
def test_missing_fact_is_named(tmp_path: Path, key: str) -> None:
    path = _capture(tmp_path, {name: value for name, value in FACTS.items() if name != key})
    with pytest.raises(ArgumentError) as caught:
        read_facts(path)
    assert str(caught.value) == f"'{key}' is missing from the capture '{path}'\n  key capture.{key}"


NO_TEXTS: list[object] = [None, 3, [[]], "x" * 70_000]
NO_PATHS: list[object] = [3, {"a": {"b": 1}}, "x" * 70_000]


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        *(("iteration", value, f"an integer from 1 to {10**12}") for value in (True, 0, 7.0, "7", 10**18, [7])),
        *(("seed", value, f"an integer from 0 to {2**32 - 1}") for value in (None, -1, 2**32, {"a": 1})),
        *(("threads", value, "an integer from 1 to 1024") for value in (0, 10**9, "2", None)),
        ("world_size", "two", f"an integer from 1 to {2**20}"),
        *((key, value, A_TEXT) for key in ("message", "device", "torch") for value in NO_TEXTS),
        *((key, value, A_TEXT) for key in ("origin", "load_from") for value in NO_PATHS),
    ],
)
def test_invalid_fact_is_named(tmp_path: Path, key: str, value: object, wanted: str) -> None:
    path = _capture(tmp_path, {**FACTS, key: value})
    with pytest.raises(ArgumentError) as caught:
        read_facts(path)
    lines = str(caught.value).splitlines()
    assert lines[:2] == [f"'{key}' in the capture '{path}' must be {wanted}", f"  key capture.{key}"]


def test_first_generation_config_keeps_its_random_state_and_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Config] = []

    def record(cfg: Config, **_: Any) -> Runner:
        built.append(cfg)
        raise ArgumentError("nothing is trained in this test")

    monkeypatch.setattr(Runner, "from_cfg", record)
    cfg = Config(
        {
            "model": {"type": "Net"},
            "data": {"train": {"type": "Images"}},
            "optimizer": {"type": "SGD", "lr": 0.1},
            "lr_config": {"policy": "fixed"},
            "runner": {"type": "IterBasedRunner", "max_iters": 8},
            "work_dir": "work",
            "seed": 5,
            "deterministic": True,
        }
    )
    facts = {**FACTS, "seed": 9, "threads": torch.get_num_threads()}
    with pytest.raises(ArgumentError, match="nothing is trained"):
        replay(cfg, str(tmp_path / "nonfinite_iter_7.capture"), facts)
    (found,) = built
    assert found["randomness"] == {"seed": 9, "deterministic": True}
    assert found["default_hooks"] == {
        "timer": {"priority": "LOW"},
        "param_scheduler": {"priority": "VERY_HIGH"},
        "checkpoint": None,
        "logger": None,
    }
    assert cfg["work_dir"] == "work"


def stopping_run(folder: Path, way: str, launcher: str) -> Config:
    return Config(
        settings(
            folder / "work",
            by_epoch=False,
            model={"type": BurstingModel, "way": way},
            on_nonfinite={"interval": 1, "grad": "stop"},
            launcher=launcher,
        )
    )


def replayed(folder: Path, way: str) -> tuple[int, list[str]]:
    path = str(folder / "work" / "nonfinite_iter_7.capture")
    found = replay(stopping_run(folder, way, "pytorch"), path, read_facts(path))
    return found.iteration, [each.name for each in found.trace.outputs]


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_replay_with_several_processes_reports_no_failure(
    way: str,
    tmp_path: Path,
    on_ranks: OnRanks,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(NonFiniteError):
        Runner.from_cfg(stopping_run(tmp_path, way, "none")).train()
    capfd.readouterr()
    first, second = on_ranks(2, replayed, tmp_path, way)
    assert first == second
    assert first[0] == 7
    assert "error" not in capfd.readouterr().err
