"""Checks the ranges of schedule settings."""

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

from footplate.errors import ArgumentError


def is_number(value: object) -> bool:
    """Checks whether `value` is a real number, including numpy numbers and excluding bools."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_number(
    name: str, value: Any, *, above: float | None = None, least: float | None = None, optional: bool = True
) -> None:
    """Raises an error unless a setting is a finite number in a range.

    Args:
        name: The name of the setting.
        value: The value of the setting.
        above: The exclusive lower bound.
        least: The inclusive lower bound.
        optional: Whether None is allowed.

    Raises:
        ArgumentError: `value` is not a finite number, or is out of range.
    """
    if value is None and optional:
        return
    if not is_number(value):
        raise ArgumentError(f'"{name}" must be a number', key=name, found=value)
    if above is not None and not above < value < math.inf:
        raise ArgumentError(f'"{name}" must be a finite number above {above:g}', key=name, found=value)
    if not (-math.inf if least is None else least) <= value < math.inf:
        wanted = "" if least is None else f" of at least {least:g}"
        raise ArgumentError(f'"{name}" must be a finite number{wanted}', key=name, found=value)


def check_positions(name: str, values: Any, *, least: int) -> None:
    """Raises an error unless all positions are integers, since a schedule would never reach others.

    Args:
        name: The name of the setting.
        values: One position or a collection of positions.
        least: The inclusive lower bound.

    Raises:
        ArgumentError: A position is not an integer, or is below `least`.
    """
    several = values if isinstance(values, Collection) and not isinstance(values, str) else [values]
    if not all(is_number(each) and each >= least and each % 1 == 0 for each in several):
        raise ArgumentError(f'"{name}" takes whole numbers of at least {least}', key=name, found=values)


def check_unit_interval(name: str, value: Any, *, zero: bool) -> None:
    """Raises an error unless a setting is a number between 0 and 1.

    Args:
        name: The name of the setting.
        value: The value of the setting.
        zero: Whether 0 is allowed.

    Raises:
        ArgumentError: `value` is not a number, or is out of range.
    """
    if not is_number(value) or not 0 <= value <= 1 or (value == 0 and not zero):
        raise ArgumentError(f'"{name}" must lie between 0 and 1', key=name, found=value)
