"""Fields of parameter groups."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from footplate.errors import ArgumentError
from footplate.optim.schedules.param_group_fields import LiveField, key_of, slots_of

PARAMETER = nn.Parameter(torch.zeros(1))


def test_a_plain_field_is_the_group_itself() -> None:
    optimizer = SGD([PARAMETER], lr=0.1)
    key, slots = slots_of(optimizer, "lr")
    assert key == "lr"
    assert slots[0] is optimizer.param_groups[0]


def test_the_first_beta_is_the_momentum() -> None:
    optimizer = AdamW([PARAMETER], betas=(0.9, 0.99))
    key, (slot,) = slots_of(optimizer, "momentum")
    slot[key] = 0.5
    assert slot[key] == 0.5
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.99)


@pytest.mark.parametrize(("optimizer", "key"), [(SGD([PARAMETER], lr=0.1), "momentum"), (AdamW([PARAMETER]), "betas")])
def test_where_the_momentum_is_kept(optimizer: torch.optim.Optimizer, key: str) -> None:
    assert key_of(optimizer, "momentum") == key
    assert key_of(optimizer, "lr") == "lr"


def test_a_tensor_is_filled_in_place_and_its_number_kept() -> None:
    rate = torch.tensor(0.1)
    optimizer = SGD([PARAMETER], lr=rate)
    key, (slot,) = slots_of(optimizer, "lr")
    slot[key] = 1 / 3
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == torch.tensor(1 / 3)
    assert slot[key] == 1 / 3  # not rounded to float32
    assert LiveField(optimizer.param_groups[0])["lr"] == float(rate)


def test_a_field_that_is_not_there() -> None:
    with pytest.raises(ArgumentError) as caught:
        slots_of(SGD([PARAMETER], lr=0.1), "weigth_decay")
    assert caught.value.suggestion == "weight_decay"
