"""Checks of values in saved states."""

from typing import Any

import pytest
import torch

from footplate.saved import saved_count, saved_flag, saved_number, saved_tensor


@pytest.mark.parametrize("state", [torch.zeros(2), None, 3, [1], "steps"], ids=["tensor", "none", "int", "list", "str"])
@pytest.mark.parametrize(
    "read",
    [
        lambda state: saved_count(state, "steps"),
        lambda state: saved_number(state, "steps"),
        lambda state: saved_flag(state, "steps"),
        lambda state: saved_tensor(state, "steps", 1),
    ],
    ids=["count", "number", "flag", "tensor"],
)
def test_a_state_that_is_no_dict_is_an_error_without_a_warning(read: Any, state: Any) -> None:
    with pytest.raises(ValueError, match="^the state with 'steps' must be a dict, not "):
        read(state)
