"""Tests of resources that must not grow with the length of a run."""

import os
from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Runner
from tests.support import loader, settings


class CountOpenFiles(Hook):
    """Counts the open files of the process after every hundredth iteration."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.counts: list[int] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if (runner.iter + 1) % 100 == 0:
            runner.saver.wait()
            self.counts.append(len(os.listdir("/proc/self/fd")))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_number_of_open_files_does_not_grow(tmp_path: Path) -> None:
    """800 iterations, in epochs of 100, with 8 saves, 8 validations, and workers that are restarted each time."""
    count = CountOpenFiles()
    cfg = settings(
        tmp_path,
        train_cfg={"by_epoch": True, "max_epochs": 8},
        train_dataloader=loader(400, num_workers=1),
        val_dataloader=loader(8, shuffle=False, num_workers=1),
        default_hooks={"checkpoint": {"interval": 1, "max_keep_ckpts": 2}, "logger": {"interval": 10}},
        custom_hooks=[count],
        log_level="INFO",
    )
    Runner(**cfg).train()
    assert len(count.counts) == 8
    assert len(set(count.counts[2:])) == 1, count.counts
    assert len([each for each in tmp_path.rglob("*") if each.suffix in (".pth", ".log")]) == 3
