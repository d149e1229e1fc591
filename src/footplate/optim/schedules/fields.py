"""Reading and writing one field of a parameter group, whatever shape the optimizer gives it."""

from collections.abc import MutableMapping
from typing import Any, Protocol

from torch import Tensor

from footplate.errors import ArgumentError
from footplate.messages import nearest

Slot = MutableMapping[str, Any]
"""Anything with `slot[name]`: a parameter group itself where the field is a plain number."""


class HasGroups(Protocol):
    """An optimizer, or a wrapper around one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups, whose fields are scheduled."""


class LiveField(dict[str, Any]):
    """Shows a field that an optimizer keeps as a tensor as the number it is now, for those who only read it."""

    def __init__(self, group: dict[str, Any]) -> None:
        super().__init__()
        self._group = group

    def __getitem__(self, name: str) -> Any:
        return float(self._group[name])


class _FirstBeta(dict[str, Any]):
    """Shows the first beta of a group as if it were a field of its own."""

    def __init__(self, group: dict[str, Any]) -> None:
        super().__init__()
        self._group = group

    def __getitem__(self, name: str) -> Any:
        return self._group[name][0]

    def __setitem__(self, name: str, value: Any) -> None:
        self._group[name] = (value, *self._group[name][1:])


class _TensorField(dict[str, Any]):
    """Shows a field that an optimizer keeps as a tensor (compiled, captured) as a number.

    Writing fills the tensor in place, so that a captured graph sees the new value; the number itself is kept here, in
    double precision and without reading anything back from the device.
    """

    def __init__(self, group: dict[str, Any], name: str) -> None:
        super().__init__()
        self._group = group
        super().__setitem__(name, float(group[name]))

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._group[name].fill_(value)


def key_of(optimizer: HasGroups, field: str) -> str:
    """Returns under which key an optimizer keeps `field`; its `betas` are the momentum where it has no other."""
    defaults = getattr(optimizer, "defaults", {})
    return "betas" if field == "momentum" and field not in defaults and "betas" in defaults else field


def slots_of(optimizer: HasGroups, field: str) -> tuple[str, list[Slot]]:
    """Returns the key of `field` and, for each group of an optimizer, what to read and write it with.

    Raises:
        ArgumentError: A group has no such field, or the optimizer sets it by itself.
    """
    groups, key = optimizer.param_groups, key_of(optimizer, field)
    for group in groups:
        if key not in group:
            known = [name for name in group if name != "params" and not name.startswith("initial_")]
            raise ArgumentError(
                f'the optimizer has no field "{field}" to schedule',
                key="param_name",
                found=field,
                suggestion=nearest(field, known),
            )
        if group[key] is None:
            raise ArgumentError(
                f'"{field}" is None: the optimizer sets it by itself, and no schedule can move it', key="param_name"
            )
    return key, [slot_of(group, key, first=key != field) for group in groups]


def slot_of(group: dict[str, Any], key: str, *, first: bool) -> Slot:
    """Returns what to read and write `group[key]` with; `first` means the first number of a pair."""
    if first:
        return _FirstBeta(group)
    return _TensorField(group, key) if isinstance(group[key], Tensor) else group
