from typing import Any

import numpy as np
import pytest
import torch

from footplate.checks import (
    check_choice,
    check_count,
    check_fraction,
    check_keys,
    read_count,
    read_flag,
    read_number,
    read_tensor,
)
from footplate.errors import ArgumentError


@pytest.mark.parametrize("value", [0, 2.0, True, "2"])
def test_check_count_rejects_other_values(value: object) -> None:
    assert check_count("interval", 0, least=0) == 0
    with pytest.raises(ArgumentError) as caught:
        check_count("interval", value, key="hook.interval")
    assert str(caught.value) == f"interval must be an integer >= 1\n  key hook.interval\n  found: {value!r}"


def test_numpy_numbers_become_plain_numbers() -> None:
    numbers = check_count("interval", np.int64(3)), check_fraction("prob", np.float32(0.5)), check_fraction("prob", 1)
    assert numbers == (3, 0.5, 1.0)
    assert [type(number) for number in numbers] == [int, float, float]
    with pytest.raises(ArgumentError, match="an integer >= 1"):
        check_count("interval", np.float64(3))


def test_check_choice_suggests_the_nearest_name() -> None:
    assert check_choice("rule", "less", ("less", "greater")) == "less"
    with pytest.raises(ArgumentError) as caught:
        check_choice("rule", "lesss", ("less", "greater"), key="hook.rule")
    assert str(caught.value) == (
        "rule must be one of less, greater\n  key hook.rule\n  found: 'lesss'\n  did you mean 'less'?"
    )


def test_check_keys_names_the_unknown_key() -> None:
    check_keys("style", {"place": 1}, ("place", "max_gb"))
    with pytest.raises(ArgumentError) as caught:
        check_keys("style", {"plce": 1}, ("place", "max_gb"))
    assert str(caught.value) == "unknown key 'plce' in style\n  key style.plce\n  found: 1\n  did you mean 'place'?"


def test_check_keys_lists_the_known_keys_if_none_is_similar() -> None:
    with pytest.raises(ArgumentError) as caught:
        check_keys("style", {"zzz": 1}, ("place", "max_gb"))
    assert str(caught.value) == "unknown key 'zzz' in style\n  key style.zzz\n  found: 1\n  valid keys: place, max_gb"
    with pytest.raises(ArgumentError) as caught:
        check_keys("style", {"zzz": 1}, [f"key{number}" for number in range(20)])
    assert caught.value.notes[0].endswith("key11 and 8 more")


@pytest.mark.parametrize(
    "read",
    [
        lambda state: read_count(state, "steps"),
        lambda state: read_number(state, "steps"),
        lambda state: read_flag(state, "steps"),
        lambda state: read_tensor(state, "steps", 1),
    ],
    ids=["count", "number", "flag", "tensor"],
)
def test_state_must_be_a_dict(read: Any) -> None:
    with pytest.raises(ValueError, match="^expected a dict with the key 'steps', not "):
        read(torch.zeros(2))
