from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Runner
from tests.support import settings


class Clock:
    """A clock that only advances on request."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_times_of_iterations_are_those_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)

    class Slow(Hook):
        priority = "HIGHEST"

        def _before_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
            clock.now += {"train": 1.0, "val": 2.0, "test": 3.0}[mode]

        def _after_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
        ) -> None:
            clock.now += {"train": 10.0, "val": 20.0, "test": 30.0}[mode]

        def before_val(self, runner: Any) -> None:
            clock.now += 1000.0

        def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
            clock.now += 5000.0

    quiet = {"checkpoint": None, "logger": None}
    train_cfg = {"by_epoch": False, "max_iters": 4, "val_interval": 2}
    runner = Runner(**settings(tmp_path, custom_hooks=[Slow()], default_hooks=quiet, train_cfg=train_cfg))
    runner.train()
    runner.test()
    times = {key: history.data[0].tolist() for key, history in runner.message_hub.log_scalars.items() if "time" in key}
    assert times == {
        "train/data_time": [1.0] * 4,
        "train/time": [11.0] * 4,
        "val/data_time": [2.0] * 4,
        "val/time": [22.0] * 4,
        "test/data_time": [3.0] * 2,
        "test/time": [33.0] * 2,
    }
