"""Reducing a field when a metric stops improving."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from footplate import Runner
from footplate.optim.schedules.plateau import ReduceOnPlateau, ReduceOnPlateauLR
from tests.support import settings

LOSSES = [1.0, 0.9, 0.95, 0.95, 0.5, 0.6, 0.6]


def sgd(groups: int = 1) -> SGD:
    return SGD([{"params": [nn.Parameter(torch.zeros(1))]} for _ in range(groups)], lr=1.0, momentum=0.8)


def step_with_losses(schedule: ReduceOnPlateau, optimizer: Optimizer, losses: list[float]) -> list[float]:
    values = []
    for loss in losses:
        schedule.step({"loss": loss})
        values.append(optimizer.param_groups[0][schedule.param_name])
    return values


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ({"patience": 1}, [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
        ({"patience": 0, "min_value": 0.3}, [1, 1, 0.5, 0.3, 0.3, 0.3, 0.3]),
        ({"patience": 0, "cooldown": 1}, [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 0, "threshold": 0.2}, [1, 0.5, 0.25, 0.125, 0.125, 0.0625, 0.03125]),
        ({"patience": 0, "rule": "greater"}, [1] + [0.5**n for n in range(1, 7)]),
        ({"patience": 0, "eps": 0.3}, [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ({"patience": 0, "begin": 3, "end": 7}, [1, 1, 1, 0.5, 0.5, 0.25, 0.25]),
    ],
)
def test_values_after_each_validation(arguments: dict[str, Any], values: list[float]) -> None:
    optimizer = sgd()
    assert step_with_losses(ReduceOnPlateauLR(optimizer, factor=0.5, **arguments), optimizer, LOSSES) == values


@pytest.mark.parametrize("by_epoch", [True, False])
def test_every_validation_of_a_run_counts_by_default(tmp_path: Path, by_epoch: bool) -> None:
    schedule = {"type": "ReduceOnPlateauLR", "monitor": "acc", "rule": "greater", "factor": 0.5, "patience": 0}
    evaluator = {"type": "Told", "values": {"acc": [1.0, 1.0, 1.0]}}
    runner = Runner(**settings(tmp_path, by_epoch=by_epoch, val_evaluator=evaluator, param_scheduler=schedule))
    before = runner.optim_wrapper.get_lr()["lr"][0]
    runner.train()
    assert runner.optim_wrapper.get_lr()["lr"] == [before / 4]


def test_loaded_schedule_is_bit_equal_and_a_resumed_one_keeps_its_settings(caplog: pytest.LogCaptureFixture) -> None:
    straight, again = sgd(), sgd()
    first, second = ReduceOnPlateauLR(straight, patience=1), ReduceOnPlateauLR(again, patience=5, factor=0.2)
    step_with_losses(first, straight, LOSSES[:4])
    again.load_state_dict(straight.state_dict())
    second.resume(first.state_dict())
    assert (second.patience, second.factor, second.best) == (5, 0.2, first.best)
    assert caplog.messages == ["Resuming ReduceOnPlateauLR with the new settings factor=0.2, patience=5."]
    second.load_state_dict(first.state_dict())
    assert step_with_losses(second, again, LOSSES[4:]) == step_with_losses(first, straight, LOSSES[4:])
