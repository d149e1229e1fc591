from typing import Any

import pytest
import torch
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.models import parse_losses


@pytest.mark.parametrize(
    ("losses", "total", "log_vars"),
    [
        ({"loss": torch.tensor(2.0)}, 2.0, {"loss": 2.0}),
        ({"loss": torch.tensor([1.0, 3.0])}, 2.0, {"loss": 2.0}),
        ({"loss_a": torch.tensor(2.0), "b_loss": torch.tensor(3.0)}, 5.0, {"loss": 5.0, "loss_a": 2.0, "b_loss": 3.0}),
        (
            {"loss_rpn": [torch.tensor([1.0, 2.0]), torch.tensor(4.0)], "acc": torch.tensor(50.0)},
            5.5,
            {"loss": 5.5, "loss_rpn": 5.5, "acc": 50.0},
        ),
        ({"loss": torch.tensor(1.0), "aux_loss": torch.tensor(2.0)}, 3.0, {"loss": 3.0, "aux_loss": 2.0}),
    ],
)
def test_losses_are_summed_and_all_values_are_logged(
    losses: dict[str, Any], total: float, log_vars: dict[str, float]
) -> None:
    found, logged = parse_losses(losses)
    assert found.item() == total
    assert {name: value.item() for name, value in logged.items()} == log_vars
    assert next(iter(logged)) == "loss"


def test_total_has_a_gradient_and_logged_values_are_detached() -> None:
    weight = torch.tensor(3.0, requires_grad=True)
    total, logged = parse_losses({"loss_a": weight * 2, "loss_b": weight * weight, "acc": weight * 7})
    total.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.item() == 8.0
    assert not any(value.requires_grad for value in logged.values())


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"acc": torch.tensor(1.0)}, "no loss of the model has 'loss' in its name"),
        ({}, "no loss of the model has 'loss' in its name"),
        ({"loss": 3.0}, "the loss 'loss' must be a tensor or a list of tensors"),
        ({"loss": []}, "must be a tensor or a list of tensors"),
        ({"loss": ["a"]}, "must be a tensor or a list of tensors"),
        ({3: torch.tensor(1.0)}, "the name of a loss must be a string"),
        (None, "must return a dict of losses"),
        (torch.tensor(1.0), "must return a dict of losses"),
    ],
)
def test_invalid_losses_are_refused(losses: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_losses(losses)
