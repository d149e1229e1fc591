"""Access to fields of parameter groups."""

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from footplate.errors import ArgumentError
from footplate.optim.schedules.param_group_fields import LiveField, field_key, field_slots

PARAMETER = nn.Parameter(torch.zeros(1))


def test_slot_of_a_plain_number_is_the_group_itself() -> None:
    optimizer = SGD([PARAMETER], lr=0.1)
    key, slots = field_slots(optimizer, "lr")
    assert key == "lr"
    assert slots[0] is optimizer.param_groups[0]


def test_momentum_of_adam_is_the_first_beta() -> None:
    optimizer = AdamW([PARAMETER], betas=(0.9, 0.99))
    key, (slot,) = field_slots(optimizer, "momentum")
    slot[key] = 0.5
    assert slot[key] == 0.5
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.99)


@pytest.mark.parametrize(("optimizer", "key"), [(SGD([PARAMETER], lr=0.1), "momentum"), (AdamW([PARAMETER]), "betas")])
def test_key_of_the_momentum(optimizer: torch.optim.Optimizer, key: str) -> None:
    assert field_key(optimizer, "momentum") == key
    assert field_key(optimizer, "lr") == "lr"


def test_tensor_is_filled_in_place_and_read_in_double_precision() -> None:
    rate = torch.tensor(0.1)
    optimizer = SGD([PARAMETER], lr=rate)
    key, (slot,) = field_slots(optimizer, "lr")
    slot[key] = 1 / 3
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == torch.tensor(1 / 3)
    assert slot[key] == 1 / 3  # not rounded to float32
    assert LiveField(optimizer.param_groups[0])["lr"] == float(rate)


def test_missing_field_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ArgumentError) as caught:
        field_slots(SGD([PARAMETER], lr=0.1), "weigth_decay")
    assert caught.value.suggestion == "weight_decay"
