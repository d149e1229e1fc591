"""Base class for data elements, which are containers for samples and predictions."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from footplate.errors import ArgumentError

_ABSENT = object()
FieldKind = Literal["data", "metainfo"]
FieldType = type | tuple[type, ...] | None


class BaseDataElement:
    """A container for a sample or part of a sample, with data fields and metainfo fields.

    Both kinds of fields are read as attributes. Assigning an attribute sets a data field; `set_metainfo` sets metainfo.
    The same name cannot be used for both kinds. `_data_fields` and `_metainfo_fields` are the sets of the names that
    have been assigned, which subclasses may maintain themselves, as in MMEngine. What a subclass stores without
    assigning it, by `object.__setattr__`, is no field.

    Args:
        metainfo: Information about the data, such as the image path or the shape before resizing.
        **data: Tensors, arrays, nested data elements, or any other values.

    Example:
        >>> sample = BaseDataElement(metainfo=dict(img_path="a.png"), scores=torch.zeros(3))
        >>> sample.img_path, sample.scores.shape, sample.keys()
        ('a.png', torch.Size([3]), ['scores'])
    """

    __slots__ = ("__dict__", "__weakref__", "_data_fields", "_metainfo_fields")

    _data_fields: set[str]
    _metainfo_fields: set[str]

    def __init__(self, *, metainfo: Mapping[str, Any] | None = None, **data: Any) -> None:
        self._data_fields, self._metainfo_fields = set(), set()
        if metainfo is not None:
            self.set_metainfo(metainfo)
        self.set_data(data)

    @property
    def metainfo(self) -> dict[str, Any]:
        """A shallow copy of the metainfo."""
        return dict(self.metainfo_items())

    def set_metainfo(self, metainfo: Mapping[str, Any]) -> None:
        """Adds or replaces metainfo fields with copies, so that the fields of two elements never change together.

        Raises:
            ArgumentError: A name is already used by a data field.
        """
        for name, value in copy.deepcopy(metainfo).items():
            self.set_field(value, name, field_type="metainfo")

    def set_data(self, data: Mapping[str, Any]) -> None:
        """Adds or replaces data fields. Raises an ArgumentError if a name is already used by a metainfo field."""
        for name, value in data.items():
            setattr(self, name, value)

    def set_field(self, value: Any, name: str, dtype: FieldType = None, field_type: FieldKind = "data") -> None:
        """Sets one field.

        Property setters of subclasses call this method with `dtype` to check the type.

        Args:
            value: The value.
            name: The name of the field. A property stores its value under another name, by convention `_name`.
            dtype: The required type of the value. By default, any type is accepted.
            field_type: "data" or "metainfo".

        Raises:
            ArgumentError: The value has the wrong type, or the name is already used by the other kind of field.
        """
        if dtype is not None and not isinstance(value, dtype):
            types = " or ".join(allowed.__name__ for allowed in (dtype if isinstance(dtype, tuple) else (dtype,)))
            raise ArgumentError(f"the field '{name}' must be of type {types}, not {type(value).__name__}")
        if field_type == "metainfo":
            if name in self._data_fields:
                raise ArgumentError(f"'{name}' is already a data field, so it cannot be set as metainfo")
        elif name in self._metainfo_fields:
            raise ArgumentError(
                f"'{name}' is already a metainfo field, so it cannot be set as data",
                notes=["Use set_metainfo() to change it."],
            )
        object.__setattr__(self, name, value)  # calls the setter if the class has a property with this name
        (self._metainfo_fields if field_type == "metainfo" else self._data_fields).add(name)

    def update(self, other: "BaseDataElement") -> None:
        """Copies all fields of `other` into this element."""
        self.set_metainfo(other.metainfo)
        self.set_data(dict(other.items()))

    def new(self, *, metainfo: Mapping[str, Any] | None = None, **data: Any) -> Self:
        """Returns a new element of the same type.

        Args:
            metainfo: The metainfo of the new element; by default, copied from this element.
            **data: The data fields of the new element; by default, copied from this element.
        """
        element = type(self)(metainfo=self.metainfo if metainfo is None else metainfo)
        element.set_data(data or dict(self.items()))
        return element

    def clone(self) -> Self:
        """Returns a copy that shares its data, but not its metainfo, with this element."""
        return self._map_data(lambda value: value)

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the attribute `key`, which need not be a field, or `default` if it does not exist."""
        return getattr(self, key, default)

    def pop(self, key: str, default: Any = _ABSENT) -> Any:
        """Removes the data or metainfo field `key` and returns its value.

        Raises:
            KeyError: The field does not exist and no default was given.
        """
        if key not in self:
            if default is _ABSENT:
                raise KeyError(f"there is no field '{key}'")
            return default
        value = getattr(self, key)
        delattr(self, key)
        return value

    def keys(self) -> list[str]:
        """Returns the names of the data fields, in the order in which they were set.

        A field that a property stores as `_name` is listed as `name` alone, and those that it stores under another name
        come last.
        """
        return self._listed(self._data_fields)

    def _listed(self, fields: set[str]) -> list[str]:
        private = {f"_{name}" for name in fields if isinstance(getattr(type(self), name, None), property)}
        stored = [name[1:] if name in private else name for name in self.__dict__ if name in fields]
        return [*stored, *sorted(fields.difference(stored, private))]

    def values(self) -> list[Any]:
        """Returns the values of the data fields."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of the data fields."""
        return zip(self.keys(), self.values(), strict=True)

    def metainfo_keys(self) -> list[str]:
        """Returns the names of the metainfo fields; see `keys`."""
        return self._listed(self._metainfo_fields)

    def metainfo_values(self) -> list[Any]:
        """Returns the values of the metainfo fields."""
        return [getattr(self, name) for name in self.metainfo_keys()]

    def metainfo_items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of the metainfo fields."""
        return zip(self.metainfo_keys(), self.metainfo_values(), strict=True)

    def all_keys(self) -> list[str]:
        """Returns the names of all metainfo and data fields."""
        return self.metainfo_keys() + self.keys()

    def all_values(self) -> list[Any]:
        """Returns the values of all metainfo and data fields."""
        return self.metainfo_values() + self.values()

    def all_items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of all metainfo and data fields."""
        yield from self.metainfo_items()
        yield from self.items()

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Returns a copy with `to` applied to tensors and nested elements, but not inside lists and dicts."""
        return self._call("to", *args, **kwargs)

    def cpu(self) -> Self:
        """Returns a copy on the CPU; see `to`."""
        return self.to("cpu")

    def cuda(self) -> Self:
        """Returns a copy on the current CUDA device; see `to`."""
        return self.to("cuda")

    def pin_memory(self) -> Self:
        """Returns a copy in pinned memory. Dataloaders with `pin_memory` call this method."""
        return self._call("pin_memory")

    def detach(self) -> Self:
        """Returns a copy with tensors detached from the autograd graph."""
        return self._call("detach")

    def numpy(self) -> Self:
        """Returns a copy with tensors converted to NumPy arrays."""
        return self._map_data(
            lambda value: value.detach().cpu().numpy() if isinstance(value, (Tensor, BaseDataElement)) else value
        )

    def to_tensor(self) -> Self:
        """Returns a copy with NumPy arrays converted to tensors that share memory with the arrays."""

        def convert(value: Any) -> Any:
            if isinstance(value, BaseDataElement):
                return value.to_tensor()
            return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

        return self._map_data(convert)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as a dict. Nested elements become nested dicts."""
        return {
            name: value.to_dict() if isinstance(value, BaseDataElement) else value for name, value in self.all_items()
        }

    def __contains__(self, key: str) -> bool:
        return key in self._data_fields or key in self._metainfo_fields

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} has no field '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in BaseDataElement.__slots__:
            object.__setattr__(self, name, value)
        else:
            self.set_field(value, name)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._data_fields.discard(name)
        self._metainfo_fields.discard(name)

    def __getstate__(self) -> object:
        # Copies, so that shallow copies do not share the sets.
        sets = {"_data_fields": {*self._data_fields}, "_metainfo_fields": {*self._metainfo_fields}}
        return {**self.__dict__}, sets

    def __repr__(self) -> str:
        lines = [f"  {name} (meta): {value!r}" for name, value in self.metainfo_items()]
        for name, value in self.items():
            text = repr(value)
            if isinstance(value, (Tensor, np.ndarray)):
                dtype = str(value.dtype).removeprefix("torch.")
                text = f"{type(value).__name__} {tuple(value.shape)} {dtype}"
            lines.append(f"  {name}: {text}")
        body = "\n".join(line.replace("\n", "\n  ") for line in lines)
        return f"{type(self).__name__}(\n{body}\n)" if lines else f"{type(self).__name__}()"

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Self:
        """Returns a copy in which a method has been applied to each value. Values without this method are kept."""
        return self._map_data(
            lambda value: getattr(value, method)(*args, **kwargs) if hasattr(value, method) else value
        )

    def _map_data(self, convert: Callable[[Any], Any]) -> Self:
        """Returns a copy with the same metainfo and with `convert` applied to all data. Bypasses property setters."""
        element = copy.copy(self)
        for name, value in self.__dict__.items():
            if name in self._data_fields:
                element.__dict__[name] = convert(value)
            elif name in self._metainfo_fields:
                element.__dict__[name] = copy.deepcopy(value)
        for name in self._data_fields.difference(self.__dict__):  # properties
            if f"_{name}" not in self._data_fields:  # which is converted above
                setattr(element, name, convert(getattr(self, name)))
        return element
