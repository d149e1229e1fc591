"""Checks of the values in a saved state: a checkpoint may hold anything at any place.

They raise ValueError, which whoever loads a checkpoint turns into an error that names the part.
"""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch

from footplate.errors import LONGEST_RUN


def saved_entry(state: Any, key: str) -> Any:
    """Returns what a state holds under `key`.

    Raises:
        KeyError: There is none.
        ValueError: The state is no dict.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"the state with '{key}' must be a dict, not {_shown(state)}")
    return state[key]


def saved_count(state: Mapping[str, Any], key: str, *, least: int = 0, most: int = LONGEST_RUN) -> int:
    """Returns the whole number under `key`.

    Raises:
        KeyError: There is none.
        ValueError: It is something else, or out of bounds.
    """
    value = saved_entry(state, key)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) <= most:
        raise ValueError(f"'{key}' must be a whole number from {least} to {most:,}, not {_shown(value)}")
    return int(value)


def saved_number(
    state: Mapping[str, Any], key: str, *, least: float = -math.inf, most: float = math.inf, finite: bool = True
) -> float:
    """Returns the real number under `key`.

    Args:
        state: The state.
        key: Its key.
        least: The smallest one that makes sense.
        most: The largest one that does.
        finite: Whether infinity is refused; NaN is in any case.

    Raises:
        KeyError: There is none.
        ValueError: It is something else, or out of bounds.
    """
    return checked_number(saved_entry(state, key), key, least=least, most=most, finite=finite)


def checked_number(
    value: Any, name: str, *, least: float = -math.inf, most: float = math.inf, finite: bool = True
) -> float:
    """Returns `value`, a real number within bounds; see `saved_number`."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and _is_float(value)
    if not is_number or (finite and not math.isfinite(value)) or not least <= value <= most:
        raise ValueError(f"'{name}' must be a number within its bounds, not {_shown(value)}")
    return value  # type: ignore[no-any-return]  # an int stays one


def saved_flag(state: Mapping[str, Any], key: str) -> bool:
    """Returns the flag under `key`.

    Raises:
        KeyError: There is none.
        ValueError: It is something else.
    """
    value = saved_entry(state, key)
    if not isinstance(value, bool):
        raise ValueError(f"'{key}' must be True or False, not {_shown(value)}")
    return value


def saved_tensor(state: Mapping[str, Any], key: str, dim: int) -> torch.Tensor:
    """Returns the tensor of real numbers under `key`.

    Args:
        state: The state.
        key: Its key.
        dim: How many dimensions it must have.

    Raises:
        KeyError: There is none.
        ValueError: It is something else.
    """
    value = saved_entry(state, key)
    if not isinstance(value, torch.Tensor) or value.dim() != dim or not value.is_floating_point():
        raise ValueError(f"'{key}' must be a tensor of real numbers with {dim} dimensions, not {_shown(value)}")
    return value


def _is_float(value: Any) -> bool:
    try:
        float(value)
    except OverflowError:  # an int may have any number of digits
        return False
    return True


def _shown(value: Any) -> str:
    if isinstance(value, (bool, int, float, complex, str)) or value is None:
        return repr(value)[:40]
    return f"a value of type '{type(value).__name__}'"
