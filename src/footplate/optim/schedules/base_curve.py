"""The base class for curves, which compute the values of parameter schedules."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

from typing_extensions import Self

from footplate.checks import check_number, is_number
from footplate.errors import ArgumentError

ENDLESS = 1_000_000_000
"""The value of `end` for a schedule that never ends."""


def check_positions(name: str, value: Any, *, least: int, is_list: bool = False) -> None:
    """Checks that a position, or each position in a list, is an integer >= `least`.

    Fractional positions are not allowed, because a schedule would never reach them.

    Raises:
        ArgumentError: A position is invalid, or the value is not a list.
    """
    numbers = value if is_list else [value]
    is_valid = isinstance(numbers, (list, tuple))
    if not is_valid or not all(is_number(position) and position >= least and position % 1 == 0 for position in numbers):
        wanted = "a list of integers" if is_list else "an integer"
        raise ArgumentError(f"'{name}' must be {wanted} >= {least}", key=name, found=value)


def number(default: Any = dataclasses.MISSING, *, is_position: bool = False, **limits: float) -> Any:
    """Declares a numeric setting. `limits` are arguments for `check_number`.

    If `is_position` is True, the setting is a number of epochs or iterations.
    """

    def check(name: str, value: Any) -> None:
        check_number(name, value, optional=default is None, **limits)

    return dataclasses.field(default=default, metadata={"check": check, "is_position": is_position})


def positions(*, least: int = 1, is_list: bool = False) -> Any:
    """Declares a setting that is a whole number (>= `least`) of epochs or iterations, or a list of such numbers."""
    check = partial(check_positions, least=least, is_list=is_list)
    return dataclasses.field(metadata={"check": check, "is_position": True})


@dataclasses.dataclass(frozen=True)
class Curve:
    """Base class for curves. The fields of a subclass are its settings, and `__call__` computes the values.

    A position is a number of epochs or iterations since the schedule's `begin`.

    Attributes:
        depends_on_end: Whether the values depend on the schedule's `end`.
    """

    depends_on_end: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if "check" in field.metadata:
                field.metadata["check"](field.name, getattr(self, field.name))

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        """Returns the next value.

        Args:
            value: The current value of the field.
            base: The base value of the field.
            position: The current position, starting at 0.
            span: The length of the schedule in epochs or iterations.
        """
        raise NotImplementedError

    def in_iterations(self, epoch_length: int) -> Self:
        """Returns a copy of the curve with its settings converted from epochs to iterations."""
        converted: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata.get("is_position") and value is not None:
                is_list = isinstance(value, (list, tuple))
                converted[field.name] = [item * epoch_length for item in value] if is_list else value * epoch_length
        return dataclasses.replace(self, **converted)

    def length(self) -> int | None:
        """Returns the curve's length in epochs or iterations, or None if it extends to the schedule's `end`."""
        return None

    def rebased(self, base: float) -> float:
        """Returns the base value to use instead of `base` in this schedule and all later ones."""
        return base

    def ends_at_base(self) -> bool:
        """Checks whether the curve ends at the base value, like a warm-up."""
        return False
