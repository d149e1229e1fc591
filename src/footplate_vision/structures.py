"""Data elements for the instances and pixels of an image."""

import functools
import operator
from collections.abc import Callable, Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from footplate.data.data_element import BaseDataElement
from footplate.errors import ArgumentError

Index: TypeAlias = int | slice | list[int] | list[bool] | Tensor | NDArray[Any]


class InstanceData(BaseDataElement):
    """A data element for the instances in an image. All fields have the same length N, the number of instances.

    Fields may be tensors or arrays of shape ``(N, ...)``, lists, tuples, strings, or other sequences.
    Indexing selects the same instances from all fields. Objects with a static method `cat`, which joins a list of
    them, only have to accept slices.

    Example:
        >>> boxes = InstanceData(bboxes=torch.zeros(3, 4), scores=torch.tensor([0.9, 0.2, 0.7]))
        >>> len(boxes[boxes.scores > 0.5])
        2
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets one field. `set_field` does not check the length, as in MMEngine.

        Raises:
            ArgumentError: The value has no length, or its length differs from the length of the existing fields.
        """
        if name not in BaseDataElement.__slots__:
            if not isinstance(value, Sized):
                raise ArgumentError(f"the InstanceData field '{name}' must have a length", found=value)
            _check_same(self, name, value, "length", len)
        super().__setattr__(name, value)

    @staticmethod
    def cat(instances: Sequence["InstanceData"]) -> "InstanceData":
        """Concatenates several elements. The result has the metainfo of the first one.

        Raises:
            ArgumentError: `instances` is empty, or the elements have different fields.
        """
        fields = dict.fromkeys(tuple(sorted(element.keys())) for element in instances)
        if len(fields) != 1:
            raise ArgumentError("cat() requires at least one element, all with the same fields", found=list(fields))
        first = instances[0]
        data: dict[str, Any] = {}
        for name, value in first.items():
            values = [element.get(name) for element in instances]
            if isinstance(value, Tensor):
                data[name] = torch.cat(values)
            elif isinstance(value, np.ndarray):
                data[name] = np.concatenate(values)
            elif hasattr(value, "cat"):
                data[name] = value.cat(values)
            else:
                data[name] = functools.reduce(operator.add, values)
        return first.new(**data)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __len__(self) -> int:
        return next(map(len, self.values()), 0)

    def __getitem__(self, index: Index | str) -> Any:
        if isinstance(index, str):
            return getattr(self, index)
        if isinstance(index, (int, np.integer)):
            index = _as_slice(int(index), len(self))
        elif not isinstance(index, slice):
            index = torch.as_tensor(index)
            index = index.reshape(1) if index.dim() == 0 else index
            if index.dim() != 1:
                raise ArgumentError("an index into InstanceData must be one-dimensional", found=index.shape)
            if index.is_floating_point() and len(index):
                raise ArgumentError("an index into InstanceData must consist of integers or bools", found=index.dtype)
            if index.dtype == torch.bool and len(index) != len(self):
                raise ArgumentError(f"a boolean index of length {len(index)} does not match {len(self)} instances")
            index = index.nonzero().flatten() if index.dtype == torch.bool else index.long()
        return self._map_data(lambda value: _select(value, index))


class PixelData(BaseDataElement):
    """A data element whose fields are tensors or arrays of shape ``(C, H, W)`` with a common height and width.

    Fields can be masks, heat maps or feature maps, for example. A field of shape ``(H, W)`` is stored with shape
    ``(1, H, W)``. Indexing by rows and columns crops all fields.

    Example:
        >>> PixelData(data=torch.zeros(64, 48))[10:20, :8].shape
        (10, 8)
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets one field. `set_field` does not check the shape, as in MMEngine.

        Raises:
            ArgumentError: The value has the wrong shape, or differs in height or width from the existing fields.
        """
        if name not in BaseDataElement.__slots__:
            if not isinstance(value, (Tensor, np.ndarray)) or value.ndim not in (2, 3):
                raise ArgumentError(
                    f"the PixelData field '{name}' must be a tensor or array of shape (C, H, W) or (H, W)",
                    found=tuple(value.shape) if hasattr(value, "shape") else value,
                )
            _check_same(self, name, value, "height and width", lambda field: tuple(field.shape[-2:]))
            value = value[None] if value.ndim == 2 else value
        super().__setattr__(name, value)

    @property
    def shape(self) -> tuple[int, int] | None:
        """The common height and width, or None if the element has no fields."""
        return next((tuple(value.shape[-2:]) for value in self.values()), None)

    def __getitem__(self, index: tuple[int | slice, int | slice]) -> Self:
        if not isinstance(index, tuple) or len(index) != 2:
            raise ArgumentError("PixelData must be indexed by rows and columns, as in element[0:8, 4:12]", found=index)
        rows, columns = (_as_slice(part, length) for part, length in zip(index, self.shape or (0, 0), strict=True))
        return self._map_data(lambda value: value[:, rows, columns])


def _check_same(element: BaseDataElement, name: str, value: Any, what: str, measure: Callable[[Any], Any]) -> None:
    """Raises an ArgumentError unless `measure` returns the same value for a new field and all existing fields.

    `what` describes the measured property in the error message.
    """
    for other, field in element.items():
        if other.removeprefix("_") != name.removeprefix("_") and measure(field) != measure(value):
            raise ArgumentError(
                f"the fields of {type(element).__name__} must have the same {what}, but '{name}' has {measure(value)} "
                f"and '{other}' has {measure(field)}"
            )


def _as_slice(index: int | slice, length: int) -> slice:
    """Returns a slice of length 1 for an index, so that indexing keeps the dimension."""
    if isinstance(index, slice):
        return index
    start = range(length)[index]  # raises IndexError if out of range
    return slice(start, start + 1)


def _select(value: Any, index: slice | Tensor) -> Any:
    """Returns the elements of a field that are selected by a slice or a vector of int64 indices."""
    if isinstance(index, slice):
        return value[index]
    if isinstance(value, Tensor):
        return value[index.to(value.device)]
    if isinstance(value, np.ndarray):
        return value[index.cpu().numpy()]
    if isinstance(value, (list, tuple, str)):
        items = [value[position] for position in index.tolist()]
        return "".join(items) if isinstance(value, str) else type(value)(items)
    # A user's class may accept only slices. Data elements, and classes around a tensor such as MMDetection's boxes,
    # accept tensors.
    if hasattr(value, "cat") and not hasattr(value, "tensor") and not isinstance(value, BaseDataElement):
        positions = [range(len(value))[position] for position in index.tolist()]
        parts = [value[position : position + 1] for position in positions]
        return value.cat(parts) if parts else value[:0]
    return value[index]
