import logging
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from footplate.errors import ArgumentError
from footplate.optim.wrappers import gradient_checks
from footplate.optim.wrappers.gradient_checks import GradientGuard, build_clipper


def parameters_with_gradients(*dtypes: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    made = [torch.zeros(5, 3, dtype=dtypes[at % len(dtypes)], requires_grad=True) for at in range(7)]
    for each in made[:-1]:
        each.grad = torch.randn(5, 3, dtype=each.dtype)
    return made


def gradients(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
    return [each.grad for each in parameters if each.grad is not None]


@pytest.mark.parametrize(("max_norm", "norm_type"), [(0.5, 2), (1e9, 1), (0.5, "inf")])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float64, torch.bfloat16)])
def test_gradients_and_norm_are_bit_equal_to_those_of_torch(
    max_norm: float, norm_type: Any, dtypes: tuple[torch.dtype, ...]
) -> None:
    ours, torchs = parameters_with_gradients(*dtypes), parameters_with_gradients(*dtypes)
    found = build_clipper({"max_norm": max_norm, "norm_type": norm_type})(ours)
    norm = nn.utils.clip_grad_norm_(torchs, max_norm, float(norm_type))
    assert found is not None
    assert torch.equal(found, norm)
    assert all(map(torch.equal, gradients(ours), gradients(torchs)))


def test_sparse_gradients_are_not_clipped() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1])).sum().backward()
    clip = build_clipper({"max_norm": 1.0})
    clip(list(parameters(1.0)))  # the kind of gradients may change while their number does not
    with pytest.raises(ArgumentError, match="^clip_grad does not support sparse gradients"):
        clip(list(table.parameters()))


def parameters(*gradients: float, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        each = nn.Parameter(torch.zeros(3, dtype=dtype))
        each.grad = torch.tensor([1.0, gradient, 2.0], dtype=dtype)
        made.append(each)
    return made


@pytest.mark.parametrize(
    ("gradient", "norm", "allowed"), [(0.5, 1.0, True), (0.0, math.inf, True), (math.nan, math.nan, False)]
)
def test_gradients_are_checked_only_if_the_norm_is_non_finite(gradient: float, norm: float, allowed: bool) -> None:
    """The norm of finite gradients may overflow, so a non-finite norm does not suffice."""
    optimizer = SGD(parameters(gradient), lr=0.1)
    assert GradientGuard("skip").allows_step(optimizer, 0, torch.tensor(norm)) is allowed


class OnDevice(Tensor):
    """A tensor that claims to be on a GPU."""

    is_cpu = False


def test_steps_skipped_on_the_device_are_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "footplate")
    check = gradient_checks._nonfinite_flag
    monkeypatch.setattr(
        gradient_checks, "_nonfinite_flag", lambda grads, flag: check(grads, flag).clone().as_subclass(OnDevice)
    )
    guard, params = GradientGuard("skip"), parameters(1.0)
    optimizer = AdamW(params, lr=0.1, fused=True)
    for iteration in range(3):
        for each in params:
            each.grad = torch.full_like(each, 1.0 if iteration == 0 else math.nan)
        assert guard.allows_step(optimizer, iteration)
        optimizer.step()
        guard._cpu_flag.zero_()
    assert [float(optimizer.state[each]["step"]) for each in params] == [1.0] * len(params)
    assert all(each.isfinite().all() for each in params)
    assert not caplog.records  # nothing is read from the device
    guard.warn_of_skipped(3)
    guard.warn_of_skipped(6)
    assert [record.getMessage() for record in caplog.records] == [
        "Skipped 2 steps up to iteration 3: non-finite gradients (2 times so far)."
    ]
