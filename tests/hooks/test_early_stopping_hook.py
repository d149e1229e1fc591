import math
from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Runner
from footplate.errors import ArgumentError
from footplate.hooks import EarlyStoppingHook
from tests.support import settings


def stopping_hook(runner: Runner) -> EarlyStoppingHook:
    return next(each for each in runner.hooks if isinstance(each, EarlyStoppingHook))


def run(tmp_path: Path, values: list[float], *, resume: bool = False, interval: int = 1, **hook: Any) -> Runner:
    cfg = settings(
        tmp_path,
        val_evaluator={"type": "Told", "values": {"acc": values}},
        custom_hooks=[{"type": "EarlyStoppingHook", "monitor": "acc", **hook}],
        resume=resume,
    )
    cfg["default_hooks"] = {"logger": None, "checkpoint": {"interval": interval}}
    runner = Runner(**{**cfg, "train_cfg": {"by_epoch": True, "max_epochs": len(values)}})
    runner.train()
    return runner


@pytest.mark.parametrize(
    ("values", "hook", "epochs"),
    [
        ([1, 1, 1, 1, 1], {"patience": 2}, 3),
        ([1, 2, 1, 1, 1], {"patience": 2}, 4),
        ([1, 2, 3, 4, 5], {"patience": 1}, 5),
        ([1.0, 1.05, 1.06, 2, 2], {"patience": 2}, 3),  # a change below min_delta is no improvement
        ([1.0, 1.05, 1.2, 1.3, 1.4], {"patience": 2, "min_delta": 0.01}, 5),
        ([3, 2, 1, 1, 1], {"patience": 2, "rule": "less"}, 5),
        ([1, math.nan, 3, 4, 5], {}, 2),
        ([1, math.nan, 3, 4, 5], {"check_finite": False}, 5),
        ([1, 2, 3, 4, 5], {"stopping_threshold": 3.0}, 3),
        ([5, 4, 3, 2, 1], {"stopping_threshold": 2.5, "rule": "less"}, 4),
    ],
)
def test_training_ends_after_patience(tmp_path: Path, values: list[float], hook: dict[str, Any], epochs: int) -> None:
    assert run(tmp_path, values, **hook).epoch == epochs


def test_the_reason_states_min_delta(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, [1.0, 1.05, 1.06, 1.0], patience=2)
    run(tmp_path, [1.0, 1.05, 1.06, 1.0], patience=2, resume=True)
    reason = "acc was not better than 1 by more than min_delta=0.1 in 2 validations"
    assert [each for each in caplog.messages if f"ended this run at iteration 12: {reason}." in each]


def test_training_continues_without_the_hook(tmp_path: Path) -> None:
    cfg = settings(tmp_path, val_evaluator={"type": "Told", "values": {"acc": [1, 1, 1]}})
    runner = Runner(**cfg)
    runner.train()
    assert runner.epoch == 3


def test_resumed_run_continues_counting(tmp_path: Path) -> None:
    run(tmp_path, [5.0, 4.0], patience=3)
    resumed = run(tmp_path, [4.0] * 5, patience=3, resume=True)  # the checkpoint does not include the last validation
    assert resumed.epoch == 4
    assert stopping_hook(resumed).state_dict() == {"wait_count": 3, "best_score": 5.0, "last_score": 4.0}


def test_older_checkpoint_has_no_last_score() -> None:
    hook = EarlyStoppingHook("acc", patience=3)
    hook.load_state_dict({"wait_count": 2, "best_score": 5.0})
    assert hook.state_dict() == {"wait_count": 2, "best_score": 5.0, "last_score": None}


ENDS: list[tuple[list[float], dict[str, Any], int]] = [
    ([1, 1, 1, 1, 1], {"patience": 2}, 3),
    ([1, math.nan, 3, 4, 5], {}, 2),
    ([1, 2, 3, 4, 5], {"stopping_threshold": 3.0}, 3),
]


@pytest.mark.parametrize("interval", [1, 5])
@pytest.mark.parametrize(("values", "hook", "epochs"), ENDS, ids=["patience", "nan", "threshold"])
def test_early_stopped_run_stays_ended(
    tmp_path: Path, values: list[float], hook: dict[str, Any], epochs: int, interval: int, caplog: Any
) -> None:
    run(tmp_path, values, interval=interval, **hook)
    assert (tmp_path / "last_checkpoint").read_text().endswith(f"epoch_{epochs}.pth")
    resumed = run(tmp_path, values, interval=interval, resume=True, **hook)
    assert (resumed.epoch, resumed.iter) == (epochs, 4 * epochs)
    told = f"Early stopping ended this run at iteration {4 * epochs}: acc "
    assert [each for each in caplog.messages if each.startswith(told)]
    assert resumed.val_loop is not None
    assert resumed.val_loop.metrics == {}  # no validation is repeated


def test_early_stopped_run_continues_with_new_settings(tmp_path: Path) -> None:
    values = [1.0, 1.0, 1.0, 1.0, 1.0]
    assert run(tmp_path, values, patience=2).epoch == 3
    assert run(tmp_path, values, patience=3, resume=True).epoch == 4


class StopOnce(Hook):
    """Ends training after the first epoch."""

    def after_train_epoch(self, runner: Any) -> None:
        runner.train_loop.stop_training = runner.epoch == 0


@pytest.mark.parametrize("by_epoch", [True, False])
def test_earlier_stop_does_not_stop_the_next_call(tmp_path: Path, by_epoch: bool) -> None:
    runner = Runner(**settings(tmp_path, by_epoch=by_epoch))
    runner.train_loop.stop_training = True
    runner.train()
    assert runner.iter == 12

    runner = Runner(**settings(tmp_path / "hook", custom_hooks=[StopOnce()]))
    runner.train()
    assert runner.epoch == 1
    runner.train()
    assert runner.epoch == 3


def test_missing_metric(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(tmp_path / "lax", [1, 1], monitor="accc", patience=1).epoch == 2
    assert "Early stopping monitors 'accc', which no evaluator computes. Did you mean 'acc'?" in caplog.messages
    with pytest.raises(ArgumentError, match="monitor selects the metric 'accc'") as caught:
        run(tmp_path / "strict", [1, 1], monitor="accc", strict=True)
    assert (caught.value.suggestion, caught.value.notes) == ("acc", ("metrics: acc",))


@pytest.mark.parametrize(
    ("hook", "key"),
    [
        ({"patience": 0}, "patience"),
        ({"min_delta": -1}, "min_delta"),
        ({"stopping_threshold": "90"}, "stopping_threshold"),
        ({"rule": "more"}, "rule"),
        ({"monitor": "speed"}, "monitor"),
    ],
)
def test_invalid_arguments(hook: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        EarlyStoppingHook(**{"monitor": "acc", **hook})
    assert caught.value.key == key
