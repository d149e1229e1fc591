"""Tests every writer with its real library by reading back its output. Skipped without the library."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config, Runner
from footplate.errors import ArgumentError
from footplate.records import BaseVisBackend
from footplate.registry import VISBACKENDS
from tests.footplate.records.seclusion import needed
from tests.footplate.records.stores import READERS, Found
from tests.support import settings

# Ignores warnings of libraries about their own dependencies and unclosed files.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300), pytest.mark.usefixtures("secluded")]

PICTURE = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
CONFIG = Config(
    {"lr": 0.5, "model": {"type": "Net", "depths": [1, 2]}, "many": {f"key{number}": number for number in range(150)}}
)


@pytest.fixture(params=READERS)
def kind(request: pytest.FixtureRequest) -> str:
    return needed(str(request.param))


def settings_of(kind: str, folder: Path) -> dict[str, Any]:
    """Returns the config of a writer."""
    return {"type": kind, "save_dir": str(folder)}


def check_config(kind: str, found: Found) -> None:
    """Asserts that the store contains the complete config, in the format of the store."""
    if kind in ("LocalVisBackend", "TensorboardVisBackend"):
        text = found.config.removeprefix("```python\n").removesuffix("```")
        assert Config.fromstring(text, ".py").to_dict() == CONFIG.to_dict()
    elif kind == "ClearMLVisBackend":
        assert "lr = 0.5" in found.config
        assert "key149 = 149" in found.config
    elif kind == "MLflowVisBackend":
        expected = {"lr": "0.5", "model.type": "Net", "model.depths": "[1, 2]"}
        assert found.config == {**expected, **{f"many.key{number}": str(number) for number in range(150)}}
    else:
        assert {key: found.config[key] for key in CONFIG} == CONFIG.to_dict()


def check_picture(found: Found) -> None:
    assert list(found.pictures) == [("scene", 20)]
    read = found.pictures["scene", 20]
    if isinstance(read, tuple):  # a store that saves JPEG, or does not return pixels
        assert read == (4, 6)
    else:
        np.testing.assert_array_equal(read, PICTURE)


def test_what_was_written_reads_back(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / f"first-{kind}"
    writer: BaseVisBackend = VISBACKENDS.build(settings_of(kind, folder))
    assert not folder.exists()
    writer.add_config(CONFIG)
    writer.add_scalars({"loss": torch.tensor(1.5), "epoch": 1}, step=10)
    writer.add_scalars({"loss": 1.25, "epoch": 2}, step=20)
    writer.add_scalars({"mIoU": np.float32(55.5), "step": 2}, step=20)
    writer.add_image("scene", PICTURE, step=20)
    writer.add_scalar("loss", 1, 30)
    writer.close()
    found = READERS[kind](folder)
    assert found.scalars == {
        "loss": [(10, 1.5), (20, 1.25), (30, 1.0)],
        "epoch": [(10, 1.0), (20, 2.0)],
        "mIoU": [(2, 55.5)],
    }
    check_picture(found)
    check_config(kind, found)
    assert len(found.runs) == 1


def run_to(end: int, kind: str, work_dir: Path, store: Path, **changes: Any) -> Runner:
    """Trains to iteration `end`: a line every two iterations, a validation and a checkpoint every four."""
    cfg = settings(
        work_dir,
        by_epoch=False,
        train_cfg={"by_epoch": False, "max_iters": end, "val_interval": 4},
        default_hooks={"checkpoint": {"by_epoch": False, "interval": 4}, "logger": {"interval": 2}},
        visualizer={"vis_backends": [settings_of(kind, store.relative_to(work_dir))]},
    )
    runner = Runner.from_cfg(Config({**cfg, **changes}))
    runner.train()
    return runner


def test_a_resumed_run_continues_the_same_run(kind: str, tmp_path: Path) -> None:
    store = tmp_path / "work" / f"resumed-{kind}"
    run_to(8, kind, tmp_path / "work", store)
    before = READERS[kind](store)
    run_to(14, kind, tmp_path / "work", store, resume=True)
    found = READERS[kind](store)
    assert found.runs == before.runs
    assert len(found.runs) == 1
    steps = {name: [step for step, _ in values] for name, values in found.scalars.items()}
    assert steps["loss"] == steps["lr"] == steps["iter"] == [2, 4, 6, 8, 10, 12, 14]
    assert steps["accuracy"] == [4, 8, 12, 14]
    for name, values in before.scalars.items():
        assert found.scalars[name][: len(values)] == values


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("WandbVisBackend", "Not logged in to Weights & Biases, so the run is stored offline"),
        ("ClearMLVisBackend", "No ClearML server is configured. Storing the task offline."),
    ],
    indirect=["kind"],
)
def test_offline_without_a_login(
    kind: str, says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "ClearMLVisBackend":
        from clearml import Task  # type: ignore[import-not-found, unused-ignore]

        # A previous test may already have found that there is no server, so the writer must check again.
        answers = iter([False])
        monkeypatch.setattr(Task, "is_offline", staticmethod(lambda: next(answers, True)))
    writer = VISBACKENDS.build({"type": kind, "save_dir": str(tmp_path / "store")})
    with caplog.at_level(logging.WARNING, "footplate"):
        writer.add_scalar("loss", 1.0, 1)
    writer.close()
    assert [each for each in caplog.messages if each.startswith(says)]


@pytest.mark.parametrize("kind", ["WandbVisBackend"], indirect=True)
def test_online_without_a_login_is_refused(kind: str, tmp_path: Path) -> None:
    cfg = {"type": kind, "save_dir": str(tmp_path / "store"), "init_kwargs": {"mode": "online"}}
    with pytest.raises(ArgumentError, match="requires a login"):
        VISBACKENDS.build(cfg).add_scalar("loss", 1.0, 1)
