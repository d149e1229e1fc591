"""Runs whose checkpoints are stored on fsspec file systems."""

import os
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest

from footplate import Runner
from footplate.checkpoint import find_newest, load_checkpoint
from footplate.errors import ArgumentError
from footplate.storage import list_dir
from tests.support import KillForTest, settings, weights


@pytest.fixture
def target(current_folder: Path) -> str:
    """An in-memory folder; commands run in `current_folder`."""
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/run"


def run(work_dir: str, **changes: Any) -> Runner:
    runner = Runner(**{**settings(work_dir), **changes})
    runner.train()
    return runner


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The weights of a run that was not stopped."""
    return weights(run(str(tmp_path_factory.mktemp("whole"))))


@pytest.mark.parametrize(
    ("place", "key"),
    [("memory://bucket/run", "work_dir"), ("memory://bucket/run", "out_dir"), ("file://{}/files/run", "work_dir")],
)
def test_resume_from_a_remote_work_dir(place: str, key: str, target: str, tmp_path: Path, whole: list[float]) -> None:
    place = place.format(tmp_path)
    work_dir = place if key == "work_dir" else str(tmp_path / "run")
    hooks = {"checkpoint": {"out_dir": None if key == "work_dir" else place, "interval": 1}}

    class StoppedError(Exception):
        pass

    class Stop(KillForTest):
        def _die(self, runner: Any) -> None:
            runner.saver.wait()
            raise StoppedError

    with pytest.raises(StoppedError):
        run(work_dir, default_hooks=hooks, custom_hooks=[Stop(8, by_epoch=True)])
    folder = place if key == "work_dir" else f"{place}/run"
    found = find_newest(folder)
    assert found is not None
    assert found.removeprefix("file://").endswith("run/epoch_2.pth")
    assert load_checkpoint(found)["meta"]["iter"] == 8
    if key == "out_dir":  # not found from the local work_dir, and not overwritten
        with pytest.raises(
            ArgumentError, match=r"To resume that run, pass --resume PATH \(resume=True, load_from=PATH"
        ):
            run(work_dir, default_hooks=hooks, resume=True)
        resumed = run(work_dir, default_hooks=hooks, resume=True, load_from=found)
    else:
        resumed = run(work_dir, default_hooks=hooks, resume=True)
    assert weights(resumed) == whole
    assert "epoch_3.pth" in list_dir(folder)
    assert not os.path.exists("memory:")
