"""Gradients that are not finite."""

import logging

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate.errors import ArgumentError
from footplate.optim.wrappers.nonfinite import GradientGuard


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
    assert GradientGuard("skip").allows_step(SGD(params, lr=0.1), params, 0) is allowed


def test_it_leaves_the_gradients_as_they_are() -> None:
    params = parameters(1e30, -1e-30)
    before = [each.grad.clone() for each in params if each.grad is not None]
    GradientGuard("skip").allows_step(SGD(params, lr=0.1), params, 0)
    for each, right in zip(params, before, strict=True):
        assert each.grad is not None
        assert torch.equal(each.grad, right)


def test_several_precisions_at_once() -> None:
    params = parameters(1.0) + parameters(float("nan"), dtype=torch.float64)
    assert not GradientGuard("skip").allows_step(SGD(params, lr=0.1), params, 0)


def test_without_gradients_there_is_nothing_to_say() -> None:
    params = [nn.Parameter(torch.zeros(1))]
    assert GradientGuard("stop").allows_step(SGD(params, lr=0.1), params, 0)


def test_one_line_at_first_and_then_ever_fewer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "footplate")
    guard, params = GradientGuard("skip"), parameters(float("nan"))
    for iteration in range(10):
        guard.allows_step(SGD(params, lr=0.1), params, iteration)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "the gradients of iteration 0 are not finite: the step is skipped (1 so far)"
    assert [line.split()[4] for line in lines] == ["0", "1", "3", "7"]


def test_an_unknown_policy() -> None:
    with pytest.raises(ArgumentError) as caught:
        GradientGuard("skipp")
    assert caught.value.suggestion == "skip"
