"""Reads values from a saved state and checks them: a checkpoint may hold any value under any key.

The functions raise ValueError; the code that loads the checkpoint turns it into a CheckpointError.
"""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch

from footplate.checks import MAX_RUN_LENGTH


def read_entry(state: Any, key: str) -> Any:
    """Returns the value under `key`.

    Raises:
        KeyError: The state has no such key.
        ValueError: The state is not a dict.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"the state with '{key}' must be a dict, not {_shown(state)}")
    return state[key]


def read_count(state: Mapping[str, Any], key: str, *, least: int = 0, most: int = MAX_RUN_LENGTH) -> int:
    """Returns the integer under `key`.

    Raises:
        KeyError: The state has no such key.
        ValueError: The value has another type or is out of bounds.
    """
    value = read_entry(state, key)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) <= most:
        raise ValueError(f"'{key}' must be a whole number from {least} to {most:,}, not {_shown(value)}")
    return int(value)


def read_number(
    state: Mapping[str, Any], key: str, *, least: float = -math.inf, most: float = math.inf, finite: bool = True
) -> float:
    """Returns the real number under `key`.

    Args:
        state: The saved state.
        key: The key of the number.
        least: The smallest valid value.
        most: The largest valid value.
        finite: Whether to refuse infinity. NaN is always refused.

    Raises:
        KeyError: The state has no such key.
        ValueError: The value has another type or is out of bounds.
    """
    return check_saved_number(read_entry(state, key), key, least=least, most=most, finite=finite)


def check_saved_number(
    value: Any, name: str, *, least: float = -math.inf, most: float = math.inf, finite: bool = True
) -> float:
    """Returns `value` if it is a real number within bounds; see `read_number`."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and _fits_float(value)
    if not is_number or (finite and not math.isfinite(value)) or not least <= value <= most:
        raise ValueError(f"'{name}' must be a number within its bounds, not {_shown(value)}")
    return value  # type: ignore[no-any-return]  # an int is returned unchanged


def read_flag(state: Mapping[str, Any], key: str) -> bool:
    """Returns the bool under `key`.

    Raises:
        KeyError: The state has no such key.
        ValueError: The value has another type.
    """
    value = read_entry(state, key)
    if not isinstance(value, bool):
        raise ValueError(f"'{key}' must be True or False, not {_shown(value)}")
    return value


def read_tensor(state: Mapping[str, Any], key: str, dim: int) -> torch.Tensor:
    """Returns the floating-point tensor under `key`.

    Args:
        state: The saved state.
        key: The key of the tensor.
        dim: The required number of dimensions.

    Raises:
        KeyError: The state has no such key.
        ValueError: The value has another type.
    """
    value = read_entry(state, key)
    if not isinstance(value, torch.Tensor) or value.dim() != dim or not value.is_floating_point():
        raise ValueError(f"'{key}' must be a floating-point tensor with {dim} dimensions, not {_shown(value)}")
    return value


def _fits_float(value: Any) -> bool:
    try:
        float(value)
    except OverflowError:  # an int may be arbitrarily large
        return False
    return True


def _shown(value: Any) -> str:
    if isinstance(value, (bool, int, float, complex, str)) or value is None:
        return repr(value)[:40]
    return f"a value of type '{type(value).__name__}'"
