"""Tests that every layer of the replayed iteration is recorded."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.config import Config
from footplate.engine import Runner
from footplate.errors import ArgumentError, NonFiniteError
from footplate.tools.replay import read_capture, replay
from tests.footplate.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.footplate.tools.bursting import BurstingModel
from tests.support import settings

FACTS = {
    "iteration": 7,
    "message": "the loss was nan in iteration 7",
    "origin": None,
    "load_from": None,
    "seed": 1,
    "world_size": 1,
    "device": "cpu",
    "threads": 1,
    "torch": "2.9.0",
}


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
        "legacy_checkpoint": {"type": "LegacyCheckpointHook"},
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
    found = replay(stopping_run(folder, way, "pytorch"), *read_capture(path))
    return found.iteration, [each.name for each in found.readings]


def test_replay_with_several_processes_reports_no_failure(
    tmp_path: Path,
    on_ranks: OnRanks,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(NonFiniteError):
        Runner.from_cfg(stopping_run(tmp_path, "backward", "none")).train()
    capfd.readouterr()
    first, second = on_ranks(2, replayed, tmp_path, "backward")
    assert first == second
    assert first[0] == 7
    assert "error" not in capfd.readouterr().err
