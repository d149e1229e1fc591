"""A data element for per-pixel data such as masks, heat maps and feature maps."""

from typing import Any

import numpy as np
from torch import Tensor
from typing_extensions import Self

from footplate.data.structures.data_element import BaseDataElement
from footplate.data.structures.element_fields import FieldKind, FieldType
from footplate.errors import ArgumentError


class PixelData(BaseDataElement):
    """A data element whose fields are tensors or arrays ``(C, H, W)`` with a common height and width.

    A field of shape ``(H, W)`` is stored as ``(1, H, W)``. Indexing by rows and columns crops all fields.

    Example:
        >>> import torch
        >>> from footplate.data.structures import PixelData
        >>> PixelData(data=torch.zeros(64, 48))[10:20, :8].shape
        (10, 8)
    """

    def set_field(
        self,
        value: Any,
        name: str,
        dtype: FieldType = None,
        field_type: FieldKind = "data",
    ) -> None:
        """Sets one field; see `BaseDataElement.set_field`.

        Raises:
            ArgumentError: The value has another shape, or another height and width than the existing fields.
        """
        if field_type == "data":
            value = self._with_channels(value, name)
        super().set_field(value, name, dtype, field_type)

    @property
    def shape(self) -> tuple[int, int] | None:
        """The common height and width, or None if the element has no fields."""
        return next((tuple(value.shape[-2:]) for value in self.__dict__.values()), None)

    def __getitem__(self, index: tuple[int | slice, int | slice]) -> Self:
        if not isinstance(index, tuple) or len(index) != 2:
            raise ArgumentError("PixelData must be indexed by rows and columns, as in element[0:8, 4:12]", found=index)
        height, width = self.shape or (0, 0)
        rows, columns = _as_slice(index[0], height), _as_slice(index[1], width)
        return self._map_data(lambda value: value[:, rows, columns])

    def _with_channels(self, value: Any, name: str) -> Any:
        if not isinstance(value, (Tensor, np.ndarray)) or value.ndim not in (2, 3):
            raise ArgumentError(
                f"the field '{name}' of PixelData must be a tensor or array of shape (C, H, W) or (H, W)",
                found=tuple(value.shape) if hasattr(value, "shape") else value,
            )
        size = tuple(value.shape[-2:])
        for other, present in self.__dict__.items():
            if other not in (name, "_" + name) and tuple(present.shape[-2:]) != size:
                raise ArgumentError(
                    f"the fields of PixelData must have one height and width, but '{name}' has {size} "
                    f"and '{other}' has {tuple(present.shape[-2:])}"
                )
        return value[None] if value.ndim == 2 else value


def _as_slice(index: int | slice, length: int) -> slice:
    if isinstance(index, slice):
        return index
    if not -length <= index < length:
        raise IndexError(f"index {index} is out of range for a dimension of size {length}")
    return slice(index % length, index % length + 1)
