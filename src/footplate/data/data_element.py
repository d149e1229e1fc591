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
    The same name cannot be used for both kinds. Data is stored in the `__dict__` of the instance, so reading a data
    field is a plain attribute access.

    Args:
        metainfo: Information about the data, such as the image path or the shape before resizing.
        **data: Tensors, arrays, nested data elements, or any other values.

    Example:
        >>> sample = BaseDataElement(metainfo=dict(img_path="a.png"), scores=torch.zeros(3))
        >>> sample.img_path, sample.scores.shape, sample.keys()
        ('a.png', torch.Size([3]), ['scores'])
    """

    __slots__ = ("__dict__", "__weakref__", "_meta")

    _meta: dict[str, Any]

    def __init__(self, *, metainfo: Mapping[str, Any] | None = None, **data: Any) -> None:
        object.__setattr__(self, "_meta", {})
        if metainfo is not None:
            self.set_metainfo(metainfo)
        self.set_data(data)

    @property
    def metainfo(self) -> dict[str, Any]:
        """A shallow copy of the metainfo."""
        return dict(self._meta)

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
            name: The name of the field. A property stores its value under `_name`.
            dtype: The required type of the value. By default, any type is accepted.
            field_type: "data" or "metainfo".

        Raises:
            ArgumentError: The value has the wrong type, or the name is already used by the other kind of field.
        """
        if dtype is not None and not isinstance(value, dtype):
            types = " or ".join(allowed.__name__ for allowed in (dtype if isinstance(dtype, tuple) else (dtype,)))
            raise ArgumentError(f"the field '{name}' must be of type {types}, not {type(value).__name__}")
        if field_type == "metainfo":
            if name in self.__dict__:
                raise ArgumentError(f"'{name}' is already a data field, so it cannot be set as metainfo")
            self._meta[name] = value
        elif name in self._meta:
            raise ArgumentError(
                f"'{name}' is already a metainfo field, so it cannot be set as data",
                notes=["Use set_metainfo() to change it."],
            )
        else:
            object.__setattr__(self, name, value)  # calls the setter if the class has a property with this name

    def update(self, other: "BaseDataElement") -> None:
        """Copies all fields of `other` into this element."""
        self.set_metainfo(other._meta)
        self.set_data(dict(other.items()))

    def new(self, *, metainfo: Mapping[str, Any] | None = None, **data: Any) -> Self:
        """Returns a new element of the same type.

        Args:
            metainfo: The metainfo of the new element; by default, copied from this element.
            **data: The data fields of the new element; by default, copied from this element.
        """
        element = type(self)(metainfo=self._meta if metainfo is None else metainfo)
        element.set_data(data or dict(self.items()))
        return element

    def clone(self) -> Self:
        """Returns a copy that shares its data, but not its metainfo, with this element."""
        return self._map_data(lambda value: value)

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the data or metainfo field `key`, or `default` if it does not exist."""
        return getattr(self, key, default) if key in self else default

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

        A field stored by a property as `_name` is listed as `name`.
        """
        names = []
        for name in self.__dict__:
            is_property = name[0] == "_" and isinstance(getattr(type(self), name[1:], None), property)
            names.append(name[1:] if is_property else name)
        return names

    @property
    def _data_fields(self) -> set[str]:
        """The names of the data fields. Kept from MMEngine, for code that reads this attribute."""
        return set(self.keys())

    @property
    def _metainfo_fields(self) -> set[str]:
        """The names of the metainfo fields. Kept from MMEngine, for code that reads this attribute."""
        return set(self._meta)

    def values(self) -> list[Any]:
        """Returns the values of the data fields."""
        return list(self.__dict__.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of the data fields."""
        return zip(self.keys(), self.values(), strict=True)

    def metainfo_keys(self) -> list[str]:
        """Returns the names of the metainfo fields."""
        return list(self._meta)

    def metainfo_values(self) -> list[Any]:
        """Returns the values of the metainfo fields."""
        return list(self._meta.values())

    def metainfo_items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of the metainfo fields."""
        return iter(self._meta.items())

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
        return key in self.__dict__ or key in self._meta or key in self.keys()

    def __getattr__(self, name: str) -> Any:
        # Called only for names that are not data fields. During unpickling, `_meta` does not exist yet.
        if name != "_meta" and name in self._meta:
            return self._meta[name]
        raise AttributeError(f"{type(self).__name__} has no field '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        self.set_field(value, name)

    def __delattr__(self, name: str) -> None:
        if name in self._meta:
            del self._meta[name]
        else:
            object.__delattr__(self, name)

    def __getstate__(self) -> Mapping[str, Any]:
        return {"metainfo": self._meta, "data": self.__dict__}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_meta", dict(state["metainfo"]))  # so that shallow copies do not share their metainfo
        self.__dict__.update(state["data"])

    def __repr__(self) -> str:
        lines = [f"  {name} (meta): {value!r}" for name, value in self._meta.items()]
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
        element = type(self).__new__(type(self))
        data = {name: convert(value) for name, value in self.__dict__.items()}
        element.__setstate__({"metainfo": copy.deepcopy(self._meta), "data": data})
        return element
