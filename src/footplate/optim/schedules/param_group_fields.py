"""Access to fields of parameter groups, which may be numbers, tensors, or the first of two betas."""

from collections.abc import MutableMapping
from typing import Any, Protocol

from torch import Tensor

from footplate.errors import ArgumentError
from footplate.messages import nearest

Slot = MutableMapping[str, Any]
"""A mapping through which a field is read and written as a number; for plain numbers, the parameter group itself."""


class HasParamGroups(Protocol):
    """An optimizer or an optimizer wrapper."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups."""


class LiveField(dict[str, Any]):
    """A read-only view of a group that returns the current value of a tensor field as a number."""

    def __init__(self, group: dict[str, Any]) -> None:
        super().__init__()
        self._group = group

    def __getitem__(self, name: str) -> Any:
        return float(self._group[name])


class _FirstBeta(dict[str, Any]):
    """A view of a group that reads and writes only the first value of `betas`."""

    def __init__(self, group: dict[str, Any]) -> None:
        super().__init__()
        self._group = group

    def __getitem__(self, name: str) -> Any:
        return self._group[name][0]

    def __setitem__(self, name: str, value: Any) -> None:
        self._group[name] = (value, *self._group[name][1:])


class _TensorField(dict[str, Any]):
    """A view of a group with a tensor field, as in compiled or captured optimizers, as a number.

    Writing fills the tensor in place, so that a captured graph uses the new value. Reading returns the last number
    that was written, in double precision and without a copy from the device.
    """

    def __init__(self, group: dict[str, Any], name: str) -> None:
        super().__init__()
        self._group = group
        super().__setitem__(name, float(group[name]))

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._group[name].fill_(value)


def field_key(optimizer: HasParamGroups, field: str) -> str:
    """Returns the key of `field` in parameter groups: "betas" for the momentum of optimizers with betas."""
    defaults = getattr(optimizer, "defaults", {})
    return "betas" if field == "momentum" and field not in defaults and "betas" in defaults else field


def field_slots(optimizer: HasParamGroups, field: str) -> tuple[str, list[Slot]]:
    """Returns the key of `field`, and the slot of each parameter group.

    Raises:
        ArgumentError: A group does not have the field, or its value is None.
    """
    groups, key = optimizer.param_groups, field_key(optimizer, field)
    for group in groups:
        if key not in group:
            known = [name for name in group if name != "params" and not name.startswith("initial_")]
            raise ArgumentError(
                f'the parameter groups of the optimizer have no field "{field}"',
                key="param_name",
                found=field,
                suggestion=nearest(field, known),
            )
        if group[key] is None:
            raise ArgumentError(
                f'"{field}" is None: the optimizer sets it itself, so it cannot be scheduled', key="param_name"
            )
    return key, [field_slot(group, key, first=key != field) for group in groups]


def field_slot(group: dict[str, Any], key: str, *, first: bool) -> Slot:
    """Returns the slot for `group[key]`.

    Args:
        group: The parameter group.
        key: The key of the field.
        first: Whether to access the first value of a tuple, as in `betas`.
    """
    if first:
        return _FirstBeta(group)
    return _TensorField(group, key) if isinstance(group[key], Tensor) else group
