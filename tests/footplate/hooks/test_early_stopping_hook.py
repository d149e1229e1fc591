import math
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from footplate import Runner
from footplate.hooks import EarlyStoppingHook
from footplate.weighted import Weighted
from tests.support import ToyModel, settings


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
        ([0, 2, 1, 1, 1], {"patience": 2}, 4),
        ([1.0, 1.05, 1.06, 2, 2], {"patience": 2}, 3),  # a change below min_delta is no improvement
        ([1.0, 1.05, 1.06, 2, 2, 2], {"patience": 2, "min_delta": 0.005}, 6),
        ([3, 2, 1, 1, 1], {"patience": 2, "rule": "less"}, 5),
        ([1, 2, 3, 4, 5], {"stopping_threshold": 3.0}, 3),
    ],
)
def test_training_ends_after_patience(
    tmp_path: Path, values: list[float], hook: dict[str, Any], epochs: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(tmp_path, values, **hook).epoch == epochs
    assert "min_delta" not in caplog.text


def test_resumed_run_continues_counting(tmp_path: Path) -> None:
    run(tmp_path, [5.0, 4.0], patience=3)
    resumed = run(tmp_path, [4.0] * 5, patience=3, resume=True)  # the checkpoint does not include the last validation
    assert resumed.epoch == 4
    assert stopping_hook(resumed).state_dict() == {"wait_count": 3, "best_score": 5.0, "last_score": 4.0}


@pytest.mark.parametrize(("values", "epochs"), [([1, 1, 1, 1, 1], 3), ([1, math.nan, 3, 4, 5], 2)])
def test_early_stopped_run_stays_ended(tmp_path: Path, values: list[float], epochs: int, caplog: Any) -> None:
    run(tmp_path, values, interval=5, patience=2)
    assert (tmp_path / "last_checkpoint").read_text().endswith(f"epoch_{epochs}.pth")
    resumed = run(tmp_path, values, interval=5, resume=True, patience=2)
    assert (resumed.epoch, resumed.iter) == (epochs, 4 * epochs)
    told = f"Early stopping ended this run at iteration {4 * epochs}: acc "
    assert [each for each in caplog.messages if each.startswith(told)]
    assert resumed.val_loop is not None
    assert resumed.val_loop.metrics == {}  # no validation is repeated


def test_early_stopped_run_continues_with_new_settings(tmp_path: Path) -> None:
    values = [1.0, 1.0, 1.0, 1.0, 1.0]
    first = run(tmp_path, values, patience=2)
    assert first.epoch == 3
    assert run(tmp_path, values, patience=3, resume=True).epoch == 4
    evaluator = {"type": "Told", "values": {"acc": values}}
    new = Runner(**settings(tmp_path / "new", val_evaluator=evaluator, custom_hooks=[stopping_hook(first)]))
    new.train()
    assert new.epoch


def test_validation_outside_training_changes_no_hook_or_schedule(tmp_path: Path) -> None:
    cfg = settings(
        tmp_path,
        val_evaluator={"type": "Told", "values": {"acc": [1.0, 1.0, 1.0, 2.0]}},
        custom_hooks=[{"type": "EarlyStoppingHook", "monitor": "acc"}],
        param_scheduler={"type": "ReduceOnPlateauLR", "monitor": "acc", "rule": "greater"},
    )
    runner = Runner(**{**cfg, "default_hooks": {"checkpoint": {"save_best": "acc"}}})
    runner.train()
    parts: list[Any] = [*runner.hooks, *runner.param_schedulers]
    states, files = [part.state_dict() for part in parts], sorted(tmp_path.iterdir())
    runner.val()
    assert [part.state_dict() for part in parts] == states
    assert sorted(tmp_path.iterdir()) == files


class _Unlabeled(ToyModel):
    """Returns a validation loss with weight 0, as if the validation data had no labels."""

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        outputs = super().forward(inputs, labels, mode)
        return outputs if self.training or mode != "loss" else {"loss": Weighted(outputs["loss"] / 0, 0)}


def _unlabeled_score(predictions: Any, batch: Any) -> Weighted:
    return Weighted(math.nan, 0)


@pytest.mark.parametrize("monitor", ["loss", "score"])
def test_validation_without_labels_is_not_judged(tmp_path: Path, monitor: str) -> None:
    hook = {"type": "EarlyStoppingHook", "monitor": monitor, "rule": "less", "patience": 1}
    plateau = {"type": "ReduceOnPlateauLR", "monitor": monitor, "patience": 0}
    evaluator = {"score": _unlabeled_score}
    cfg = settings(tmp_path, val_evaluator=evaluator, custom_hooks=[hook], param_scheduler=plateau)
    runner = Runner(**{**cfg, "model": _Unlabeled(), "val_cfg": {"loss": True}})
    runner.train()
    assert (runner.epoch, len({row["lr"] for row in runner.history})) == (3, 1)
    assert [math.isnan(row[f"val/{monitor}"]) for row in runner.history] == [True] * 3
