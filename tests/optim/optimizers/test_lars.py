"""LARS, compared with algorithm 1 of its paper and a plain loop over tensors."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from footplate.errors import ArgumentError
from footplate.optim import build_optim_wrapper
from footplate.optim.optimizers import LARS


def test_first_step_matches_a_manual_computation() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = LARS([weight], lr=2.0, momentum=0.9, weight_decay=0.1, eta=0.5, eps=0.0)
    weight.grad = torch.tensor([0.0, 1.0], dtype=torch.float64)
    optimizer.step()
    # |w| = 5, |g| = 1: local rate 0.5 * 5 / (1 + 0.1 * 5) = 5/3; step 2 * 5/3 * (g + 0.1 w)
    first = torch.tensor([3.0 - 10 / 3 * 0.3, 4.0 - 10 / 3 * 1.4], dtype=torch.float64)
    torch.testing.assert_close(weight.detach(), first, rtol=1e-14, atol=0)
    torch.testing.assert_close(
        optimizer.state[weight]["momentum_buffer"], torch.tensor([1.0, 14 / 3], dtype=torch.float64), rtol=1e-14, atol=0
    )


class PlainLARS:
    """The algorithm of the paper as a loop over tensors."""

    def __init__(self, weights: list[Tensor], **settings: Any) -> None:
        self.weights, self.settings = weights, settings
        self.buffers = [torch.zeros_like(weight) for weight in weights]

    def step(self, grads: list[Tensor]) -> None:
        lr, momentum, decay, eta, eps = (self.settings[k] for k in ("lr", "momentum", "weight_decay", "eta", "eps"))
        for weight, grad, buffer in zip(self.weights, grads, self.buffers, strict=True):
            weight_norm, grad_norm = float(weight.norm()), float(grad.norm())
            is_scaled = weight_norm and grad_norm
            ratio = eta * weight_norm / (grad_norm + decay * weight_norm + eps) if is_scaled else 1.0
            update = lr * ratio * (grad + decay * weight)
            buffer.mul_(momentum).add_(update, alpha=1 - self.settings.get("dampening", 0))
            weight -= update + momentum * buffer if self.settings.get("nesterov") else buffer


@pytest.mark.parametrize("changes", [{}, {"nesterov": True}, {"dampening": 0.5}])
def test_steps_match_a_plain_loop_over_tensors(changes: dict[str, Any]) -> None:
    settings = {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-2, "eta": 0.01, "eps": 1e-8, **changes}
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (5,), (2, 2, 2))]
    start.append(torch.zeros(3, dtype=torch.float64))
    weights = [nn.Parameter(each.clone()) for each in start]
    optimizer, plain = LARS(weights, **settings), PlainLARS([each.clone() for each in start], **settings)
    for _ in range(5):
        grads = [torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in start]
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad.clone()
        optimizer.step()
        plain.step(grads)
    for weight, expected in zip(weights, plain.weights, strict=True):
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-15)


def test_excluded_groups_step_like_sgd() -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    cfg = {
        "optimizer": {"type": "LARS", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
        "paramwise_cfg": {"custom_keys": {"weight": {"lars_exclude": True}, "bias": {"lars_exclude": True}}},
    }
    wrapper, plain = build_optim_wrapper(model, cfg), SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        wrapper.update_params(model(torch.ones(1, 3)).pow(2).sum())
        plain.zero_grad()
        other(torch.ones(1, 3)).pow(2).sum().backward()
        plain.step()
    for parameter, expected in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)


def test_parameters_without_gradient_are_unchanged() -> None:
    weight = nn.Parameter(torch.ones(2))
    LARS([weight], lr=0.1).step()
    assert weight.tolist() == [1.0, 1.0]


def test_closure_is_called_with_gradients_enabled() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = LARS([weight], lr=0.1)

    def closure() -> float:
        loss = weight.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert weight.max() < 1


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"lr": -1.0}, "lr"), ({"lr": 1.0, "eta": -1.0}, "eta"), ({"lr": 1.0, "nesterov": True}, "nesterov")],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        LARS([nn.Parameter(torch.ones(1))], **settings)
    assert caught.value.key == key
