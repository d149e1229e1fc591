from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from footplate.errors import ArgumentError
from footplate.optim import build_optim_wrapper
from footplate.optim.lars_lamb import LAMB, LARS, norms_of, scale_each


def test_norms_of_returns_one_norm_per_tensor() -> None:
    assert norms_of([torch.tensor([3.0, 4.0]), torch.zeros(2, 2)]).tolist() == [5.0, 0.0]


def test_scale_each_multiplies_each_tensor_by_its_factor() -> None:
    tensors = [torch.ones(2), torch.ones(1, 2)]
    scale_each(tensors, torch.tensor([2.0, 0.5]))
    assert [each.flatten().tolist() for each in tensors] == [[2.0, 2.0], [0.5, 0.5]]


def test_lamb_first_step_matches_a_manual_computation() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = LAMB([weight], lr=0.1, eps=0.0, weight_decay=0.5)
    weight.grad = torch.tensor([1.0, -2.0], dtype=torch.float64)
    optimizer.step()
    # The first update of Adam is the sign of the gradient: u = (1, -1) + 0.5 w = (2.5, 1); |w| / |u| = 5 / sqrt(7.25)
    scale = 0.1 * 5 / 7.25**0.5
    expected = torch.tensor([3 - scale * 2.5, 4 - scale * 1.0], dtype=torch.float64)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=0)


def plain_step(weight: torch.Tensor, grad: torch.Tensor, state: dict[str, Any], settings: dict[str, Any]) -> None:
    """Runs one step of the algorithm of the paper for one tensor."""
    first, second = settings["betas"]
    state["n"] = state.get("n", 0) + 1
    state["m"] = first * state.get("m", 0) + (1 - first) * grad
    state["v"] = second * state.get("v", 0) + (1 - second) * grad**2
    mean, square = state["m"], state["v"]
    if settings["bias_correction"]:
        mean, square = mean / (1 - first ** state["n"]), square / (1 - second ** state["n"])
    update = mean / (square.sqrt() + settings["eps"]) + settings["weight_decay"] * weight
    weight_norm, update_norm = float(weight.norm()), float(update.norm())
    ratio = weight_norm / update_norm if weight_norm and update_norm else 1.0
    if settings["trust_clip"] is not None:
        ratio = min(ratio, settings["trust_clip"])
    weight -= settings["lr"] * ratio * update


@pytest.mark.parametrize("changes", [{}, {"bias_correction": False}, {"trust_clip": 0.5}, {"weight_decay": 0.0}])
def test_lamb_steps_match_a_plain_loop_over_tensors(changes: dict[str, Any]) -> None:
    settings: dict[str, Any] = {
        "lr": 0.01,
        "betas": (0.9, 0.99),
        "eps": 1e-6,
        "weight_decay": 0.1,
        "bias_correction": True,
        "trust_clip": None,
        **changes,
    }
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (5,))]
    start.append(torch.zeros(3, dtype=torch.float64))
    weights, expected = [nn.Parameter(each.clone()) for each in start], [each.clone() for each in start]
    optimizer = LAMB(weights, **settings)
    states: list[dict[str, Any]] = [{} for _ in start]
    for _ in range(4):
        for weight, plain, state in zip(weights, expected, states, strict=True):
            weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            plain_step(plain, weight.grad, state, settings)
        optimizer.step()
    for weight, plain in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), plain, rtol=1e-12, atol=1e-15)


def test_training_continues_from_a_loaded_state() -> None:
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
def test_lamb_arguments_out_of_range_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        LAMB([nn.Parameter(torch.ones(1))], **settings)
    assert caught.value.key == key


def test_complex_parameters_are_refused() -> None:
    with pytest.raises(ArgumentError, match="^LAMB does not support complex parameters"):
        LAMB([torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))])


def test_lars_first_step_matches_a_manual_computation() -> None:
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
def test_lars_arguments_out_of_range_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        LARS([nn.Parameter(torch.ones(1))], **settings)
    assert caught.value.key == key
