"""The base class of data elements."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from footplate.errors import ArgumentError
from footplate.structures.element_fields import Fields


class BaseDataElement(Fields):
    """One sample, or a part of one: fields of data, and metainfo about them.

    Args:
        metainfo: What is known about the data: the picture's path, its shape before resizing ...
        **data: Tensors, arrays, other data elements, or anything else.

    Example:
        >>> import torch
        >>> from footplate.structures import BaseDataElement
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
        """Adds to the metainfo, or changes it.

        Raises:
            ArgumentError: It is no mapping, or a name is that of a field of data.
        """
        for name, value in _mapping(metainfo, "metainfo").items():
            self.set_field(value, name, field_type="metainfo")

    def set_data(self, data: Mapping[str, Any]) -> None:
        """Adds fields of data, or changes them.

        Raises:
            ArgumentError: It is no mapping, or a name is that of a field of metainfo.
        """
        for name, value in _mapping(data, "data").items():
            setattr(self, name, value)

    def update(self, other: "BaseDataElement") -> None:
        """Takes over all fields of `other`."""
        self.set_metainfo(other._meta)
        self.set_data(dict(other.items()))

    def new(self, *, metainfo: Mapping[str, Any] | None = None, **data: Any) -> Self:
        """Returns an element of this type; a kind of field that is not given is taken from this one."""
        made = type(self)(metainfo=self._meta if metainfo is None else metainfo)
        made.set_data(data or dict(self.items()))
        return made

    def clone(self) -> Self:
        """Returns an element of its own with the same values."""
        return self._with(dict(self.__dict__))

    def all_keys(self) -> list[str]:
        """Returns the names of metainfo and data."""
        return self.metainfo_keys() + self.keys()

    def all_values(self) -> list[Any]:
        """Returns the values of metainfo and data."""
        return self.metainfo_values() + self.values()

    def all_items(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and values of metainfo and data."""
        yield from self.metainfo_items()
        yield from self.items()

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Returns an element whose tensors, at any depth, are converted as `Tensor.to` does."""
        return self._mapped(lambda value: value.to(*args, **kwargs) if hasattr(value, "to") else value)

    def cpu(self) -> Self:
        """Returns an element whose tensors lie in main memory."""
        return self.to("cpu")

    def cuda(self) -> Self:
        """Returns an element whose tensors lie on the current CUDA device."""
        return self.to("cuda")

    def detach(self) -> Self:
        """Returns an element whose tensors are cut off from the graph."""
        return self._mapped(lambda value: value.detach() if hasattr(value, "detach") else value)

    def numpy(self) -> Self:
        """Returns an element whose tensors are arrays in main memory."""
        return self._mapped(_as_array)

    def to_tensor(self) -> Self:
        """Returns an element whose arrays are tensors that share their memory."""
        return self._mapped(_as_tensor)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields as a dict, nested elements too."""
        return {
            name: value.to_dict() if isinstance(value, BaseDataElement) else value for name, value in self.all_items()
        }

    def __repr__(self) -> str:
        lines = [f"  {name} (meta): {value!r}" for name, value in self._meta.items()]
        lines += [f"  {name}: {_described(value)}" for name, value in self.items()]
        body = "\n".join(line.replace("\n", "\n  ") for line in lines)
        return f"{type(self).__name__}(\n{body}\n)" if lines else f"{type(self).__name__}()"

    def _mapped(self, change: Callable[[Any], Any]) -> Self:
        return self._with({name: change(value) for name, value in self.__dict__.items()})

    def _with(self, data: dict[str, Any]) -> Self:
        made = type(self).__new__(type(self))
        made.__setstate__({"metainfo": dict(self._meta), "data": data})
        return made


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{what} of a data element is a dict", found=value)
    return value


def _as_array(value: Any) -> Any:
    if isinstance(value, BaseDataElement):
        return value.numpy()
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else value


def _as_tensor(value: Any) -> Any:
    if isinstance(value, BaseDataElement):
        return value.to_tensor()
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _described(value: object) -> str:
    if isinstance(value, (Tensor, np.ndarray)):
        return f"{type(value).__name__} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return repr(value)
