"""LAMB, against algorithm 2 of its paper and a plain loop."""

from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError
from footplate.optim.optimizers import LAMB


def test_a_worked_example() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = LAMB([weight], lr=0.1, eps=0.0, weight_decay=0.5)
    weight.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    optimizer.step()
    # The first update of Adam is the sign of the gradient: u = (1, -1) + 0.5 w = (2.5, 1); |w| / |u| = 5 / sqrt(7.25)
    scale = 0.1 * 5 / 7.25**0.5
    right = torch.tensor([3 - scale * 2.5, 4 - scale * 1.0], dtype=torch.float64)
    torch.testing.assert_close(weight.detach(), right, rtol=1e-12, atol=0)


def plain_step(weight: torch.Tensor, grad: torch.Tensor, state: dict[str, Any], settings: dict[str, Any]) -> None:
    """The paper's algorithm for one tensor."""
    first, second = settings["betas"]
    state["n"] = state.get("n", 0) + 1
    state["m"] = first * state.get("m", 0) + (1 - first) * grad
    state["v"] = second * state.get("v", 0) + (1 - second) * grad**2
    mean, square = state["m"], state["v"]
    if settings["bias_correction"]:
        mean, square = mean / (1 - first ** state["n"]), square / (1 - second ** state["n"])
    update = mean / (square.sqrt() + settings["eps"]) + settings["weight_decay"] * weight
    size, length = float(weight.norm()), float(update.norm())
    trust = size / length if size and length else 1.0
    if settings["trust_clip"] is not None:
        trust = min(trust, settings["trust_clip"])
    weight -= settings["lr"] * trust * update


@pytest.mark.parametrize("further", [{}, {"bias_correction": False}, {"trust_clip": 0.5}, {"weight_decay": 0.0}])
def test_a_plain_loop_over_tensors(further: dict[str, Any]) -> None:
    settings: dict[str, Any] = {
        "lr": 0.01,
        "betas": (0.9, 0.99),
        "eps": 1e-6,
        "weight_decay": 0.1,
        "bias_correction": True,
        "trust_clip": None,
        **further,
    }
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (5,))]
    start.append(torch.zeros(3, dtype=torch.float64))
    weights, right = [nn.Parameter(each.clone()) for each in start], [each.clone() for each in start]
    optimizer = LAMB(weights, **settings)
    states: list[dict[str, Any]] = [{} for _ in start]
    for _ in range(4):
        for weight, twin, state in zip(weights, right, states, strict=True):
            weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            plain_step(twin, weight.grad, state, settings)
        optimizer.step()
    for weight, twin in zip(weights, right, strict=True):
        torch.testing.assert_close(weight.detach(), twin, rtol=1e-12, atol=1e-15)


def test_it_goes_on_from_its_state() -> None:
    one, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    first, second = LAMB([one]), LAMB([other])
    for number in range(4):
        for weight, optimizer in ((one, first), (other, second)):
            weight.grad = torch.full((3,), 1.0 + number)
            optimizer.step()
        if number == 1:
            second = LAMB([other])
            second.load_state_dict(first.state_dict())
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("settings", "key"), [({"lr": -1.0}, "lr"), ({"eps": -1.0}, "eps"), ({"betas": (0.9, 1.0)}, "betas")]
)
def test_settings_without_sense(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        LAMB([nn.Parameter(torch.ones(1))], **settings)
    assert caught.value.key == key


def test_complex_parameters_are_refused() -> None:
    with pytest.raises(ArgumentError, match="^LAMB does not support complex parameters"):
        LAMB([torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
