"""Every torch scheduler, resumed with each setting changed and as every other scheduler, against runs from scratch."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim import lr_scheduler as schedulers
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import SWALR

from footplate.errors import ArgumentError
from footplate.optim import OptimWrapper
from footplate.optim.resumed_schedules import fast_forward, restore_schedules
from footplate.optim.resumed_settings import choose_settings, settings_of
from footplate.optim.schedules.torch_schedule import TorchSchedule

STEPS, DONE = 24, 7
Settings = dict[str, Any]
Groups = list[tuple[float, float]]


def sequential(optimizer: SGD, milestone: int, start: float, gamma: float) -> LRScheduler:
    parts: list[LRScheduler] = [schedulers.LinearLR(optimizer, start, 1, 3), schedulers.StepLR(optimizer, 3, gamma)]
    return schedulers.SequentialLR(optimizer, parts, [milestone])


def sequential_cosine(optimizer: SGD, length: int, milestone: int) -> LRScheduler:
    parts: list[LRScheduler] = [
        schedulers.LinearLR(optimizer, 0.1, 1, milestone),
        schedulers.CosineAnnealingLR(optimizer, length),
    ]
    return schedulers.SequentialLR(optimizer, parts, [milestone])


def chained(optimizer: SGD, start: float, gamma: float) -> LRScheduler:
    return schedulers.ChainedScheduler(
        [schedulers.LinearLR(optimizer, start, 1, 3), schedulers.StepLR(optimizer, 3, gamma)]
    )


# Each function with its settings, and another value for each of them.
KINDS: dict[str, tuple[Callable[..., LRScheduler], Settings, Settings]] = {
    "LambdaLR": (schedulers.LambdaLR, {"lr_lambda": lambda step: 0.5**step}, {"lr_lambda": lambda step: 0.9**step}),
    "MultiplicativeLR": (
        schedulers.MultiplicativeLR,
        {"lr_lambda": lambda step: 0.5},
        {"lr_lambda": lambda step: 0.9},
    ),
    "StepLR": (schedulers.StepLR, {"step_size": 3, "gamma": 0.5}, {"step_size": 5, "gamma": 0.9}),
    "MultiStepLR": (
        schedulers.MultiStepLR,
        {"milestones": [3, 9], "gamma": 0.5},
        {"milestones": [5, 11], "gamma": 0.9},
    ),
    "ConstantLR": (schedulers.ConstantLR, {"factor": 0.3, "total_iters": 9}, {"factor": 0.6, "total_iters": 5}),
    "LinearLR": (
        schedulers.LinearLR,
        {"start_factor": 0.3, "end_factor": 0.9, "total_iters": 9},
        {"start_factor": 0.5, "end_factor": 0.8, "total_iters": 13},
    ),
    "ExponentialLR": (schedulers.ExponentialLR, {"gamma": 0.9}, {"gamma": 0.8}),
    "PolynomialLR": (schedulers.PolynomialLR, {"total_iters": 20, "power": 1.0}, {"total_iters": 25, "power": 2.0}),
    "CosineAnnealingLR": (schedulers.CosineAnnealingLR, {"T_max": 20, "eta_min": 0.0}, {"T_max": 27, "eta_min": 0.01}),
    "CosineAnnealingWarmRestarts": (
        schedulers.CosineAnnealingWarmRestarts,
        {"T_0": 5, "T_mult": 1, "eta_min": 0.0},
        {"T_0": 7, "T_mult": 2, "eta_min": 0.01},
    ),
    "CyclicLR": (
        schedulers.CyclicLR,
        {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 4, "step_size_down": 5},
        {
            "base_lr": 0.02,
            "max_lr": 0.3,
            "step_size_up": 5,
            "step_size_down": 7,
            "mode": "triangular2",
            "scale_fn": lambda cycle: 1 / cycle,
            "cycle_momentum": False,
            "base_momentum": 0.7,
            "max_momentum": 0.95,
        },
    ),
    "OneCycleLR": (
        schedulers.OneCycleLR,
        {"max_lr": 0.2, "total_steps": 24},
        {
            "max_lr": 0.4,
            "total_steps": 30,
            "pct_start": 0.5,
            "anneal_strategy": "linear",
            "cycle_momentum": False,
            "base_momentum": 0.7,
            "max_momentum": 0.9,
            "div_factor": 10.0,
            "final_div_factor": 1e2,
            "three_phase": True,
        },
    ),
    "SWALR": (
        SWALR,
        {"swa_lr": 0.05, "anneal_epochs": 10, "anneal_strategy": "cos"},
        {"swa_lr": 0.02, "anneal_epochs": 12, "anneal_strategy": "linear"},
    ),
    "SequentialLR": (
        sequential,
        {"milestone": 4, "start": 0.1, "gamma": 0.5},
        {"milestone": 6, "start": 0.5, "gamma": 0.9},
    ),
    "cosine in SequentialLR": (sequential_cosine, {"length": 9, "milestone": 4}, {"length": 15, "milestone": 6}),
    "ChainedScheduler": (chained, {"start": 0.1, "gamma": 0.5}, {"start": 0.5, "gamma": 0.9}),
}
CHANGES = [(kind, setting) for kind, (_, _, changed) in KINDS.items() for setting in changed]


def build(kind: str, settings: Settings, lr: float = 0.1) -> tuple[SGD, TorchSchedule]:
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": weights[:1]}, {"params": weights[1:], "lr": lr / 4}]
    optimizer = SGD(groups, lr, momentum=0.9)
    return optimizer, TorchSchedule(optimizer, KINDS[kind][0](optimizer, **settings), by_epoch=False)


def steps(optimizer: SGD, schedule: TorchSchedule, count: int) -> list[Groups]:
    """Returns the learning rate and the momentum of each group before the first step and after each step."""
    values = [[(group["lr"], group["momentum"]) for group in optimizer.param_groups]]
    for _ in range(count):
        schedule.step()
        values.append([(group["lr"], group["momentum"]) for group in optimizer.param_groups])
    return values


def from_scratch(kind: str, settings: Settings, lr: float = 0.1) -> Any:
    return pytest.approx(torch.tensor(steps(*build(kind, settings, lr), STEPS)[DONE:], dtype=torch.float64).numpy())


def resumed(old: tuple[str, Settings], new: tuple[str, Settings], *, take: bool, lr: float = 0.1) -> Any:
    """Returns the values of a run that began with `old` and resumes with `new`."""
    optimizer, schedule = build(*old)
    steps(optimizer, schedule, DONE)
    state, states = OptimWrapper(optimizer).state_dict(), [schedule.state_dict()]
    optimizer, schedule = build(*new, lr)
    wrapper = OptimWrapper(optimizer)
    configured = settings_of(wrapper)
    wrapper.load_state_dict(state)
    choose_settings(wrapper, configured, takes_config=take)
    loop = SimpleNamespace(iter=DONE, by_epoch=False, max_iters=STEPS, max_epochs=1)
    if take:
        fast_forward([schedule], loop, states)
    else:
        restore_schedules([schedule], states, loop, DONE)
    return torch.tensor(steps(optimizer, schedule, STEPS - DONE), dtype=torch.float64).numpy()


@pytest.mark.parametrize(("kind", "setting"), CHANGES)
def test_new_settings_are_taken_or_reported(kind: str, setting: str, caplog: pytest.LogCaptureFixture) -> None:
    _, settings, changed = KINDS[kind]
    new = {**settings, setting: changed[setting]}
    expected = from_scratch(kind, new, 0.05)
    assert resumed((kind, settings), (kind, new), take=True, lr=0.05) == expected
    caplog.clear()
    if setting == "total_steps":  # with the saved number, the scheduler would fail
        with pytest.raises(ArgumentError, match="24 steps, .* 30"):
            resumed((kind, settings), (kind, new), take=False)
        return
    kept = resumed((kind, settings), (kind, new), take=False)
    if callable(changed[setting]):  # a checkpoint contains no functions
        return
    assert kept == from_scratch(kind, settings)
    if kept != from_scratch(kind, new):
        assert any(message.startswith("Ignoring the new") for message in caplog.messages)


@pytest.mark.parametrize("kind", KINDS)
def test_unchanged_settings_are_not_reported(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    same = (kind, KINDS[kind][1])
    for take in (False, True):
        assert resumed(same, same, take=take) == from_scratch(*same)
    assert caplog.messages == []
