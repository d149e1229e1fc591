"""Ranges that the settings of schedules must lie in."""

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

from footplate.errors import ArgumentError


def is_number(value: object) -> bool:
    """Checks whether `value` is a real number, one of numpy included, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_number(
    name: str, value: Any, *, above: float | None = None, least: float | None = None, optional: bool = True
) -> None:
    """Refuses a setting that is not a finite number, or is too small.

    Args:
        name: The setting.
        value: Its value.
        above: The number that it must be greater than.
        least: The smallest number that it may be.
        optional: Whether None passes.

    Raises:
        ArgumentError: It is something else.
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
    """Refuses positions that are not whole numbers of at least `least`: no step of a schedule would ever meet them.

    Args:
        name: The setting.
        values: One position, or several.
        least: The smallest one that makes sense.

    Raises:
        ArgumentError: One is something else.
    """
    several = values if isinstance(values, Collection) and not isinstance(values, str) else [values]
    if not all(is_number(each) and each >= least and each % 1 == 0 for each in several):
        raise ArgumentError(f'"{name}" takes whole numbers of at least {least}', key=name, found=values)


def check_unit_interval(name: str, value: Any, *, zero: bool) -> None:
    """Refuses a setting that does not lie between 0 and 1.

    Args:
        name: The setting.
        value: Its value.
        zero: Whether it may be 0.

    Raises:
        ArgumentError: It is something else.
    """
    if not is_number(value) or not 0 <= value <= 1 or (value == 0 and not zero):
        raise ArgumentError(f'"{name}" must lie between 0 and 1', key=name, found=value)
