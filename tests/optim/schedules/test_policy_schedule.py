"""Schedules of first-generation configs."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from footplate.errors import ArgumentError, BuildError
from footplate.optim.schedules.policy_schedule import PolicyLR, PolicyMomentum


def sgd(momentum: float = 0.8) -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=momentum)


def walk(optimizer: Optimizer, schedule: Any, field: str, steps: int) -> list[Any]:
    values = [optimizer.param_groups[0][field]]
    for _ in range(steps - 1):
        schedule.step()
        values.append(optimizer.param_groups[0][field])
    return values


def test_policy_by_epoch_with_warm_up_by_iteration() -> None:
    optimizer = sgd()
    schedule = PolicyLR(
        optimizer,
        policy="step",
        step=[1],
        gamma=0.5,
        warmup="linear",
        warmup_iters=3,
        warmup_ratio=0.25,
        epoch_length=2,
        max_epochs=3,
    )
    assert not schedule.by_epoch
    assert walk(optimizer, schedule, "lr", 6) == pytest.approx([0.25, 0.5, 0.375, 0.5, 0.5, 0.5])


def test_warm_up_by_epoch() -> None:
    optimizer = sgd()
    schedule = PolicyLR(
        optimizer,
        policy="fixed",
        by_epoch=False,
        warmup="constant",
        warmup_iters=1,
        warmup_ratio=0.5,
        warmup_by_epoch=True,
        epoch_length=2,
        max_epochs=2,
    )
    assert walk(optimizer, schedule, "lr", 4) == [0.5, 0.5, 1.0, 1.0]


def test_warm_up_divides_the_momentum() -> None:
    optimizer = sgd(0.5)
    schedule = PolicyMomentum(
        optimizer, policy="fixed", warmup="constant", warmup_iters=1, warmup_ratio=0.625, max_iters=3, by_epoch=False
    )
    assert walk(optimizer, schedule, "momentum", 3) == [0.8, 0.5, 0.5]


def test_momentum_of_adam_is_the_first_beta() -> None:
    optimizer = AdamW([nn.Parameter(torch.zeros(1))], betas=(0.8, 0.999))
    schedule = PolicyMomentum(
        optimizer, policy="step", step=1, gamma=0.5, min_momentum=0.3, max_iters=3, by_epoch=False
    )
    assert walk(optimizer, schedule, "betas", 3) == [(0.8, 0.999), (0.4, 0.999), (0.3, 0.999)]


def test_default_gamma_of_momentum_steps_is_one_half() -> None:
    optimizer = sgd()
    schedule = PolicyMomentum(optimizer, policy="step", step=1, max_iters=3, by_epoch=False)
    assert walk(optimizer, schedule, "momentum", 3) == [0.8, 0.4, 0.2]


def test_one_cycle_of_lr_and_momentum() -> None:
    optimizer = sgd()
    shared: dict[str, Any] = {"policy": "OneCycle", "max_iters": 11, "pct_start": 4 / 11, "anneal_strategy": "linear"}
    rate = PolicyLR(optimizer, max_lr=1.0, div_factor=4, final_div_factor=1, **shared)
    momentum = PolicyMomentum(optimizer, base_momentum=0.5, max_momentum=0.8, **shared)
    for _ in range(3):
        rate.step()
        momentum.step()
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"]) == (1.0, 0.5)


@pytest.mark.parametrize("policy", ["cyclic", "OneCycle"])
def test_cyclic_policies_ignore_by_epoch(policy: str) -> None:
    settings: dict[str, Any] = {"max_lr": 1.0} if policy == "OneCycle" else {}
    by_epoch, by_iter = sgd(), sgd()
    schedule = PolicyLR(by_epoch, policy=policy, by_epoch=True, max_iters=10, **settings)
    assert not schedule.by_epoch
    rates = walk(by_epoch, schedule, "lr", 10)
    assert len(set(rates)) > 2
    assert rates == walk(by_iter, PolicyLR(by_iter, policy=policy, by_epoch=False, max_iters=10, **settings), "lr", 10)


@pytest.mark.parametrize("name", ["step", "Step"])
def test_name_of_a_policy_may_be_capitalized(name: str) -> None:
    optimizer = sgd()
    schedule = PolicyLR(optimizer, policy=name, step=1, gamma=0.5, max_iters=3, by_epoch=False)
    assert walk(optimizer, schedule, "lr", 3) == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("settings", "error", "key", "suggestion"),
    [
        ({"policy": "stpe", "step": 1}, ArgumentError, "policy", "step"),
        ({"policy": "step", "steps": 1}, BuildError, "steps", "step"),
        ({"policy": "poly", "min_l": 1}, BuildError, "min_l", "min_lr"),
        ({"policy": "exp"}, BuildError, "gamma", None),
        ({"policy": "OneCycle"}, BuildError, "max_lr", None),
        ({"policy": "OneCycle", "max_l": 1}, BuildError, "max_l", "max_lr"),
        ({"policy": "poly", "min_lr": -1}, ArgumentError, "min_lr", None),
        ({"policy": "OneCycle", "max_lr": [0.1]}, ArgumentError, "max_lr", None),
        ({"policy": "fixed", "warmup": "liner", "warmup_iters": 2}, ArgumentError, "warmup", "linear"),
        ({"policy": "fixed", "warmup": "linear"}, ArgumentError, "warmup_iters", None),
        (
            {"policy": "fixed", "warmup": "linear", "warmup_iters": 2, "warmup_ratio": 2.0},
            ArgumentError,
            "warmup_ratio",
            None,
        ),
        ({"policy": "fixed", "by_epoch": True}, ArgumentError, "epoch_length", None),
        ({"policy": "YOLOX", "min_lr": 0, "num_last_epochs": 2}, ArgumentError, "epoch_length", None),
    ],
)
def test_invalid_settings_are_refused(
    settings: dict[str, Any], error: type[Any], key: str, suggestion: str | None
) -> None:
    with pytest.raises(error) as caught:
        PolicyLR(sgd(), **{"max_iters": 10, "by_epoch": False, **settings})
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)


def test_length_of_the_run_is_required() -> None:
    with pytest.raises(ArgumentError, match="max_epochs"):
        PolicyLR(sgd(), policy="fixed")
