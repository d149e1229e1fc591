from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from footplate.optim import build_optim_wrapper
from footplate.optim.lars import LARS


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
def test_lars_steps_match_a_plain_loop_over_tensors(changes: dict[str, Any]) -> None:
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
