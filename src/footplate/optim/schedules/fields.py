"""Reading and writing one field of a parameter group, whatever shape the optimizer gives it."""

from collections.abc import Iterable, MutableMapping
from typing import Any

from torch import Tensor

from footplate.errors import ArgumentError, nearest

Slot = MutableMapping[str, Any]
"""Anything with `slot[name]`: a parameter group itself where the field is a plain number."""


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

    Writing fills the tensor in place, so that a captured graph sees the new value; the number itself is kept here, so
    that nothing is read back from the device.
    """

    def __init__(self, group: dict[str, Any], name: str) -> None:
        super().__init__()
        self._group = group
        super().__setitem__(name, float(group[name]))

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._group[name].fill_(value)


def slots_of(groups: Iterable[dict[str, Any]], field: str) -> tuple[str, list[Slot]]:
    """Returns the key of `field` in the groups and, for each group, what to read and write it with.

    `momentum` stands for the first beta where an optimizer has betas.

    Raises:
        ArgumentError: The groups have no such field.
    """
    groups = list(groups)
    key = "betas" if field == "momentum" and all("momentum" not in group for group in groups) else field
    for group in groups:
        if key not in group:
            known = [name for name in group if name != "params" and not name.startswith("initial_")]
            raise ArgumentError(
                f'the optimizer has no field "{field}" to schedule',
                key="param_name",
                found=field,
                suggestion=nearest(field, known),
            )
    return key, [_slot(group, key, first=key != field) for group in groups]


def _slot(group: dict[str, Any], key: str, *, first: bool) -> Slot:
    if first:
        return _FirstBeta(group)
    return _TensorField(group, key) if isinstance(group[key], Tensor) else group
