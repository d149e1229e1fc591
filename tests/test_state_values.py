from typing import Any

import pytest
import torch

from footplate.state_values import read_count, read_flag, read_number, read_tensor


@pytest.mark.parametrize("state", [torch.zeros(2), None, 3, [1], "steps"], ids=["tensor", "none", "int", "list", "str"])
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
def test_state_must_be_a_dict(read: Any, state: Any) -> None:
    with pytest.raises(ValueError, match="^the state with 'steps' must be a dict, not "):
        read(state)
