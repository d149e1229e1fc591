"""The base class of data elements."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from footplate.data.structures.element_fields import ElementFields
from footplate.errors import ArgumentError


class BaseDataElement(ElementFields):
    """A container for one sample or a part of one: data fields, and metainfo that describes them.

    Args:
        metainfo: Facts about the data, such as the image path or the shape before resizing.
        **data: Tensors, arrays, nested data elements, or any other values.

    Example:
        >>> import torch
        >>> from footplate.data.structures import BaseDataElement
        >>> sample = BaseDataElement(metainfo=dict(img_path="a.png"), scores=torch.zeros(3))
        >>> sample.img_path, sample.scores.shape, sample.keys()
        ('a.png', torch.Size([3]), ['scores'])
    """

    def __init__(self, *, metainfo: Mapping[str, Any] | None = None, **data: Any) -> None:
        object.__setattr__(self, "_meta", {})
        if metainfo is not None:
            self.set_metainfo(metainfo)
        if data:
            self.set_data(data)

    def set_metainfo(self, metainfo: Mapping[str, Any]) -> None:
        """Adds or replaces metainfo fields.

        Raises:
            ArgumentError: `metainfo` is not a mapping, or a name is already used by a data field.
        """
        for name, value in _check_mapping(metainfo, "metainfo").items():
            self.set_field(value, name, field_type="metainfo")

    def set_data(self, data: Mapping[str, Any]) -> None:
        """Adds or replaces data fields.

        Raises:
            ArgumentError: `data` is not a mapping, or a name is already used by a metainfo field.
        """
        for name, value in _check_mapping(data, "data").items():
            setattr(self, name, value)

    def update(self, other: "BaseDataElement") -> None:
        """Copies all fields of `other` into this element."""
        self.set_metainfo(other._meta)
        self.set_data(dict(other.items()))

    def new(self, *, metainfo: Mapping[str, Any] | None = None, **data: Any) -> Self:
        """Returns a new element of the same type.

        Args:
            metainfo: The metainfo of the new element; by default that of this element.
            **data: The data fields of the new element; by default those of this element.
        """
        element = type(self)(metainfo=self._meta if metainfo is None else metainfo)
        element.set_data(data or dict(self.items()))
        return element

    def clone(self) -> Self:
        """Returns a shallow copy: the new element shares the values of this one."""
        return self._copy_with(dict(self.__dict__))

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
        """Returns a copy in which `to` was applied to all tensors and nested elements; see `Tensor.to`."""
        return self._map_data(lambda value: value.to(*args, **kwargs) if hasattr(value, "to") else value)

    def cpu(self) -> Self:
        """Returns a copy with all tensors on the CPU."""
        return self.to("cpu")

    def cuda(self) -> Self:
        """Returns a copy with all tensors on the current CUDA device."""
        return self.to("cuda")

    def detach(self) -> Self:
        """Returns a copy with all tensors detached from the autograd graph."""
        return self._map_data(lambda value: value.detach() if hasattr(value, "detach") else value)

    def numpy(self) -> Self:
        """Returns a copy with all tensors converted to NumPy arrays."""
        return self._map_data(_as_array)

    def to_tensor(self) -> Self:
        """Returns a copy with all NumPy arrays converted to tensors that share their memory."""
        return self._map_data(_as_tensor)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as a dict; nested elements become nested dicts."""
        return {
            name: value.to_dict() if isinstance(value, BaseDataElement) else value for name, value in self.all_items()
        }

    def __repr__(self) -> str:
        lines = [f"  {name} (meta): {value!r}" for name, value in self._meta.items()]
        lines += [f"  {name}: {_summary(value)}" for name, value in self.items()]
        body = "\n".join(line.replace("\n", "\n  ") for line in lines)
        return f"{type(self).__name__}(\n{body}\n)" if lines else f"{type(self).__name__}()"

    def _map_data(self, convert: Callable[[Any], Any]) -> Self:
        return self._copy_with({name: convert(value) for name, value in self.__dict__.items()})

    def _copy_with(self, data: dict[str, Any]) -> Self:
        """Returns a copy with the same metainfo and other data, without calling property setters."""
        element = type(self).__new__(type(self))
        element.__setstate__({"metainfo": dict(self._meta), "data": data})
        return element


def _check_mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ArgumentError(f"the {name} of a data element must be a dict", found=value)
    return value


def _as_array(value: Any) -> Any:
    if isinstance(value, BaseDataElement):
        return value.numpy()
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def _as_tensor(value: Any) -> Any:
    if isinstance(value, BaseDataElement):
        return value.to_tensor()
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _summary(value: object) -> str:
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{type(value).__name__} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return repr(value)
