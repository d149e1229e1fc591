"""Gradients that are not finite."""

import logging
import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate.errors import ArgumentError, NonFiniteError
from footplate.optim.wrappers.gradient_guard import GradientGuard, skips_by_itself


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
def test_it_looks_at_every_gradient(gradients: tuple[float, ...], allowed: bool) -> None:
    params = parameters(*gradients)
    assert GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0) is allowed


def test_it_leaves_the_gradients_as_they_are() -> None:
    params = parameters(1e30, -1e-30)
    before = [each.grad.clone() for each in params if each.grad is not None]
    GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0)
    for each, right in zip(params, before, strict=True):
        assert each.grad is not None
        assert torch.equal(each.grad, right)


def test_several_precisions_at_once() -> None:
    params = parameters(1.0) + parameters(float("nan"), dtype=torch.float64)
    assert not GradientGuard("skip").allows_step(SGD(params, lr=0.1), 0)


def test_without_gradients_there_is_nothing_to_say() -> None:
    params = [nn.Parameter(torch.zeros(1))]
    assert GradientGuard("stop").allows_step(SGD(params, lr=0.1), 0)


@pytest.mark.parametrize(
    ("gradient", "norm", "allowed"), [(0.5, 1.0, True), (0.0, math.inf, True), (math.nan, math.nan, False)]
)
def test_a_norm_that_is_finite_answers_for_the_gradients(gradient: float, norm: float, allowed: bool) -> None:
    """One that is not asks them: finite ones may be too great for the sum of their squares."""
    optimizer = SGD(parameters(gradient), lr=0.1)
    assert GradientGuard("skip").allows_step(optimizer, 0, torch.tensor(norm)) is allowed


def test_a_stop_says_in_which_iteration() -> None:
    with pytest.raises(NonFiniteError, match="the gradients of iteration 7 are not finite") as caught:
        GradientGuard("stop").allows_step(SGD(parameters(math.nan), lr=0.1), 7)
    assert (caught.value.iteration, caught.value.exit_code) == (7, 3)


def test_only_an_optimizer_whose_groups_are_fused_skips_by_itself() -> None:
    fused = SGD(parameters(1.0), lr=0.1, fused=True)
    assert skips_by_itself(fused)
    fused.param_groups[0]["fused"] = None  # as a state that is loaded may have it
    assert not skips_by_itself(fused)
    assert not skips_by_itself(SGD(parameters(1.0), lr=0.1))


def test_one_line_at_first_and_then_ever_fewer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "footplate")
    guard, params = GradientGuard("skip"), parameters(float("nan"))
    for iteration in range(10):
        guard.allows_step(SGD(params, lr=0.1), iteration)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "the gradients of iteration 0 are not finite: the step is skipped (1 so far)"
    assert [line.split()[4] for line in lines] == ["0", "1", "3", "7"]


def test_an_unknown_policy() -> None:
    with pytest.raises(ArgumentError) as caught:
        GradientGuard("skipp")
    assert caught.value.suggestion == "skip"
