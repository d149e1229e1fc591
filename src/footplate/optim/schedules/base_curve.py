"""The base class of curves, which compute the values of parameter schedules."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from footplate.checks import is_number
from footplate.errors import ArgumentError

_Self = TypeVar("_Self", bound="Curve")

ValueFunction = Callable[[float, float], float]
"""A function (current value, base value) -> next value."""

ENDLESS = 1_000_000_000
"""The value of `end` for a schedule that never ends."""


def check_positions(name: str, values: Any, *, least: int) -> None:
    """Checks that a position, or each of several positions, is an integer of at least `least`.

    A schedule never reaches a position between two integers.

    Raises:
        ArgumentError: A position is not such an integer.
    """
    several = values if isinstance(values, Collection) and not isinstance(values, str) else [values]
    if not all(is_number(each) and each >= least and each % 1 == 0 for each in several):
        wanted = "a list of integers" if several is values else "an integer"
        raise ArgumentError(f'"{name}" must be {wanted} of at least {least}', key=name, found=values)


@dataclasses.dataclass(frozen=True)
class Curve:
    """The base class of curves. A subclass overrides `__call__`, or `at`, which is faster for many parameter groups."""

    position_fields: ClassVar[Sequence[str]] = ()
    """The fields that are positions or numbers of positions."""

    @classmethod
    def without_checks(cls: type[_Self], settings: Mapping[str, Any]) -> _Self:
        """Returns a curve whose settings may be out of range. Keys that are not settings are ignored."""
        curve = cls.__new__(cls)
        names = settings.keys() & {each.name for each in dataclasses.fields(cls)}
        vars(curve).update({name: settings[name] for name in names})
        return curve

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        """Returns the next value.

        Args:
            value: The current value of the field.
            base: The base value of the field.
            position: The position, counted from the schedule's `begin`.
            span: The number of positions at which the schedule acts.
        """
        return self.at(position, span)(value, base)

    def at(self, position: int, span: int) -> ValueFunction:
        """Returns a function that computes the value at a position. It is called once per parameter group."""
        if type(self).__call__ is Curve.__call__:
            raise NotImplementedError(f"{type(self).__name__} defines neither __call__() nor at()")
        return lambda value, base: self(value, base, position, span)

    def in_iterations(self: _Self, epoch_length: int) -> _Self:
        """Returns the curve with all settings in epochs converted to iterations."""
        converted = {}
        for name in self.position_fields:
            value = getattr(self, name)
            if isinstance(value, Collection):
                converted[name] = [each * epoch_length for each in value]
            elif value is not None:
                converted[name] = value * epoch_length
        return dataclasses.replace(self, **converted) if converted else self

    def length(self) -> int | None:
        """Returns the number of positions of the curve, or None if it depends on the schedule's `end`."""
        return None

    def rebased(self, base: float) -> float:
        """Returns the base value for this schedule and those created later, given the current base value."""
        return base

    def ends_at_base(self) -> bool:
        """Checks whether the last value is the base value, as in a warm-up."""
        return False
