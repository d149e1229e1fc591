from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.legacy import Hook, LogBuffer
from footplate.records import MessageHub
from tests.legacy.support import first


def buffer(mode: str = "train") -> LogBuffer:
    return LogBuffer(MessageHub("log_buffer"), lambda: mode)


def test_means_are_weighted_by_their_counts() -> None:
    log = buffer()
    for number in range(3):
        log.update({"mine": float(number)}, number + 1)
    log.average(2)
    assert log.output == {"mine": pytest.approx((1 * 2 + 2 * 3) / 5)}
    log.average()
    assert log.output == {"mine": pytest.approx(8 / 6)}
    assert (log.val_history, log.n_history) == ({"mine": [0.0, 1.0, 2.0]}, {"mine": [1.0, 2.0, 3.0]})


def test_a_cleared_one_begins_anew() -> None:
    log = buffer()
    log.update({"mine": 1.0})
    log.clear()
    assert (log.output, log.ready) == ({}, False)
    log.average()
    assert log.output == {}
    log.update({"mine": 5.0})
    log.average(10)
    assert log.output == {"mine": 5.0}


def test_values_that_are_shown_are_not_recorded_again() -> None:
    log = buffer("val")
    log.output["mIoU"] = 0.5
    log.show({"mAcc": 0.25})
    assert (log.output, log.val_history) == ({"mAcc": 0.25}, {"mIoU": [0.5]})


def test_averages_of_a_run_are_those_of_its_epoch(tmp_path: Path) -> None:
    # Figures of the first generation's own runner, for these hooks on these numbers.
    seen: list[float] = []

    class Mine(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            runner.log_buffer.update({"mine": float(runner.iter)}, runner.iter + 1)

        def after_train_epoch(self, runner: Any) -> None:
            runner.log_buffer.average()
            assert "lr" not in runner.log_buffer.output
            seen.append(runner.log_buffer.output["mine"])

    Runner.from_cfg(first(tmp_path, custom_hooks=[Mine()])).train()
    assert seen == pytest.approx([2.0, 5.6923, 9.6190], abs=1e-4)
