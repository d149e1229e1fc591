"""Checks for non-finite gradients."""

import logging
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate.errors import ArgumentError, NonFiniteError
from footplate.optim.wrappers.gradient_guard import GradientGuard, can_skip_on_device


def parameters(*gradients: float, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        each = nn.Parameter(torch.zeros(3, dtype=dtype))
        each.grad = torch.tensor([1.0, gradient, 2.0], dtype=dtype)
        made.append(each)
    return made


@pytest.mark.parametrize(
    ("gradients", "allowed"), [((1.0, -5.0), True), ((1.0, float("nan")), False), ((float("inf"), 1.0), False)]
)
def test_all_gradients_are_checked(gradients: tuple[float, ...], allowed: bool) -> None:
    params = parameters(*gradients)
    assert GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0) is allowed


def test_gradients_are_not_modified() -> None:
    params = parameters(1e30, -1e-30)
    before = [each.grad.clone() for each in params if each.grad is not None]
    GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0)
    for each, expected in zip(params, before, strict=True):
        assert each.grad is not None
        assert torch.equal(each.grad, expected)


def test_gradients_of_several_dtypes_are_checked() -> None:
    params = parameters(1.0) + parameters(float("nan"), dtype=torch.float64)
    assert not GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0)


def test_step_without_gradients_is_allowed() -> None:
    params = [nn.Parameter(torch.zeros(1))]
    assert GradientGuard("stop").allows_step(SGD(params, lr=0.1), 0)


@pytest.mark.parametrize(
    ("gradient", "norm", "allowed"), [(0.5, 1.0, True), (0.0, math.inf, True), (math.nan, math.nan, False)]
)
def test_gradients_are_checked_only_if_the_norm_is_non_finite(gradient: float, norm: float, allowed: bool) -> None:
    """The norm of finite gradients may overflow, so a non-finite norm does not suffice."""
    optimizer = SGD(parameters(gradient), lr=0.1)
    assert GradientGuard("skip").allows_step(optimizer, 0, torch.tensor(norm)) is allowed


def test_stop_raises_an_error_with_the_iteration() -> None:
    with pytest.raises(NonFiniteError, match="the gradients of iteration 7 are non-finite") as caught:
        GradientGuard("stop").allows_step(SGD(parameters(math.nan), lr=0.1), 7)
    assert (caught.value.iteration, caught.value.exit_code) == (7, 3)


def test_only_fused_optimizers_can_skip_on_the_device() -> None:
    fused = SGD(parameters(1.0), lr=0.1, fused=True)
    assert can_skip_on_device(fused)
    fused.param_groups[0]["fused"] = None  # as after loading a state
    assert not can_skip_on_device(fused)
    assert not can_skip_on_device(SGD(parameters(1.0), lr=0.1))


def test_warnings_are_logged_at_powers_of_two(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "footplate")
    guard, params = GradientGuard("skip"), parameters(float("nan"))
    for iteration in range(10):
        guard.allows_step(SGD(params, lr=0.1), iteration)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "The gradients of iteration 0 are non-finite: the step is skipped (1 so far)."
    assert [line.split()[4] for line in lines] == ["0", "1", "3", "7"]


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ArgumentError) as caught:
        GradientGuard("skipp")
    assert caught.value.suggestion == "skip"
