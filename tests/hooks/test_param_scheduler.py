from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Runner
from tests.support import settings

QUIET: dict[str, Any] = {"checkpoint": None, "logger": None}


class Rates(Hook):
    """Records the learning rate of each iteration."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.seen: list[float] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.seen.append(runner.optim_wrapper.param_groups[0]["lr"])


def rates(tmp_path: Path, by_epoch: bool, **changes: Any) -> list[float]:
    hook = Rates()
    cfg = settings(tmp_path, by_epoch=by_epoch, custom_hooks=[hook], default_hooks=QUIET, **changes)
    Runner(**{**cfg, "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 1.0}}}).train()
    return hook.seen


def test_schedules_by_epoch_move_after_each_epoch(tmp_path: Path) -> None:
    schedule = {"type": "MultiStepLR", "milestones": [1, 2], "gamma": 0.5, "by_epoch": True}
    assert rates(tmp_path, True, param_scheduler=schedule) == [1.0] * 4 + [0.5] * 4 + [0.25] * 4


@pytest.mark.parametrize("by_epoch", [True, False])
def test_schedules_by_iteration_move_after_each_iteration(tmp_path: Path, by_epoch: bool) -> None:
    schedule = {"type": "MultiStepLR", "milestones": [2, 7], "gamma": 0.5, "by_epoch": False}
    assert rates(tmp_path, by_epoch, param_scheduler=schedule) == [1.0] * 2 + [0.5] * 5 + [0.25] * 5


def test_several_schedules_act_in_turn(tmp_path: Path) -> None:
    schedules = [
        {"type": "LinearLR", "start_factor": 0.5, "end": 2, "by_epoch": False},
        {"type": "MultiStepLR", "milestones": [1], "gamma": 0.1, "by_epoch": True},
    ]
    assert rates(tmp_path, True, param_scheduler=schedules) == pytest.approx([0.5, 1.0, 1.0, 1.0] + [0.1] * 8)


def test_a_schedule_that_watches_a_metric_moves_after_validations(tmp_path: Path) -> None:
    schedule = {"type": "ReduceOnPlateauLR", "monitor": "loss", "patience": 0, "factor": 0.5, "by_epoch": True}
    told = {"type": "Told", "values": {"loss": [1.0, 2.0, 3.0]}}
    seen = rates(tmp_path, True, param_scheduler=schedule, val_evaluator=told)
    assert seen == [1.0] * 8 + [0.5] * 4


def test_without_schedules_nothing_moves(tmp_path: Path) -> None:
    assert rates(tmp_path, True, param_scheduler=None) == [1.0] * 12


def test_a_validation_alone_moves_nothing(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, default_hooks=QUIET))
    runner.val()
    assert runner.optim_wrapper.param_groups[0]["lr"] == 0.1
