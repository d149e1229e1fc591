"""Tests what depends on the phase of a run."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint
from tests.footplate.engine.signaled_runs import in_process
from tests.support import Points, settings


class SaveAt(Hook):
    """Saves a checkpoint at an event of iteration 5 (counted from 0), or of the second epoch."""

    def __init__(self, event: str) -> None:
        setattr(self, event, self._save)

    def _save(self, runner: Any, **_: Any) -> None:
        if runner.iter in (5, 8) and not (Path(runner.work_dir) / "own.pth").exists():
            runner.save_checkpoint(runner.work_dir, "own.pth")


@pytest.mark.parametrize(
    ("event", "iteration", "epoch"),
    [
        ("before_train_iter", 5, 1),
        ("after_train_iter", 6, 1),
        ("before_train_epoch", 8, 2),
        ("after_train_epoch", 8, 2),
    ],
)
def test_saved_position_counts_the_completed_step_or_epoch(
    tmp_path: Path, event: str, iteration: int, epoch: int
) -> None:
    hooks = {"checkpoint": {"interval": -1, "save_last": False}}
    Runner(**settings(tmp_path, default_hooks=hooks, custom_hooks=[SaveAt(event)])).train()
    loop = load_checkpoint(str(tmp_path / "own.pth"))["run"]["loop"]
    assert (loop["iter"], loop["epoch"]) == (iteration, epoch)


class Blocking(Points):
    """Blocks, or fails, at one of the samples of the main process or of a worker, after it has sent a stop request."""

    def __init__(self, at: int, stops: bool) -> None:
        super().__init__()
        self.at, self.stops = at, stops

    def __getitem__(self, index: int) -> Any:
        if index == self.at and self.stops:
            os.kill(os.getppid() if get_worker_info() else os.getpid(), signal.SIGTERM)
            time.sleep(60)
        if index == self.at:
            raise OSError("cut short")
        return super().__getitem__(index)


class ForeignLoader(DataLoader[Any]):
    """A loader whose batches footplate does not read itself."""

    def __iter__(self) -> Any:
        return super().__iter__()


def foreign(work_dir: Path, *, stops: bool, workers: int) -> Runner:
    """Returns a run with torch's own loader, in which reading batch 2 (counted from 0) blocks or fails."""
    sections = settings(work_dir, by_epoch=False)
    sections["train_dataloader"] = ForeignLoader(
        Blocking(9, stops), batch_size=4, num_workers=workers, prefetch_factor=1 if workers else None
    )
    return Runner(**sections)


def test_stop_does_not_wait_for_a_worker_of_a_torch_loader(tmp_path: Path) -> None:
    def train() -> None:
        foreign(tmp_path, stops=True, workers=1).train()

    began = time.monotonic()
    assert in_process(train) == 143
    assert time.monotonic() - began < 50  # the sample takes 60 s
    assert torch.load(tmp_path / "on_signal.pth", weights_only=True)["meta"]["iter"] in (1, 2)


def test_run_is_saved_when_a_torch_loader_fails(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cut short") as caught:
        foreign(tmp_path, stops=False, workers=1).train()
    assert getattr(caught.value, "__notes__", [""])[0].startswith("The run was saved after iteration 2: ")
