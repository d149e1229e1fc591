from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.first_generation.adapters import Hook, LogBuffer
from footplate.records import MessageHub
from tests.first_generation.adapters.support import old_config


def buffer(mode: str = "train") -> LogBuffer:
    return LogBuffer(MessageHub("log_buffer"), lambda: mode)


def test_averages_are_weighted_by_counts() -> None:
    log = buffer()
    for number in range(3):
        log.update({"mine": float(number)}, number + 1)
    log.average(2)
    assert log.output == {"mine": pytest.approx((1 * 2 + 2 * 3) / 5)}
    log.average()
    assert log.output == {"mine": pytest.approx(8 / 6)}
    assert (log.val_history, log.n_history) == ({"mine": [0.0, 1.0, 2.0]}, {"mine": [1.0, 2.0, 3.0]})


def test_clear_starts_new_averages() -> None:
    log = buffer()
    log.update({"mine": 1.0})
    log.clear()
    assert (log.output, log.ready) == ({}, False)
    log.average()
    assert log.output == {}
    log.update({"mine": 5.0})
    log.average(10)
    assert log.output == {"mine": 5.0}


def test_replace_output_does_not_record_values() -> None:
    log = buffer("val")
    log.output["mIoU"] = 0.5
    log.replace_output({"mAcc": 0.25})
    assert (log.output, log.val_history) == ({"mAcc": 0.25}, {"mIoU": [0.5]})


def test_averages_of_an_epoch_equal_those_of_mmcv(tmp_path: Path) -> None:
    # Values of mmcv 1.7.2 with the same hooks and numbers.
    seen: list[float] = []

    class Mine(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            runner.log_buffer.update({"mine": float(runner.iter)}, runner.iter + 1)

        def after_train_epoch(self, runner: Any) -> None:
            runner.log_buffer.average()
            assert "lr" not in runner.log_buffer.output
            seen.append(runner.log_buffer.output["mine"])

    Runner.from_cfg(old_config(tmp_path, custom_hooks=[Mine()])).train()
    assert seen == pytest.approx([2.0, 5.6923, 9.6190], abs=1e-4)
