"""Schedules of first-generation configs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.errors import ArgumentError, BuildError
from footplate_openmmlab.first_generation.optim.policies import PolicyLR


def sgd(momentum: float = 0.8) -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=momentum)


@pytest.mark.parametrize(
    ("settings", "error", "key", "suggestion"),
    [
        ({"policy": "stpe", "step": 1}, ArgumentError, "policy", "step"),
        ({"policy": "exp"}, BuildError, "gamma", None),
        ({"policy": "YOLOX", "min_lr": 0, "num_last_epochs": 2}, ArgumentError, "num_last_epochs", None),
    ],
)
def test_invalid_settings_are_refused(
    settings: dict[str, Any], error: type[Any], key: str, suggestion: str | None
) -> None:
    with pytest.raises(error) as caught:
        PolicyLR(sgd(), **{"max_iters": 10, "by_epoch": False, **settings})
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)


def test_state_of_a_policy_can_be_saved(tmp_path: Path) -> None:
    schedule = PolicyLR(sgd(), policy="inv", gamma=0.5, power=2, max_iters=4, by_epoch=False)
    save_checkpoint(schedule.state_dict(), tmp_path / "state.pth")
    assert load_checkpoint(tmp_path / "state.pth") == schedule.state_dict()
