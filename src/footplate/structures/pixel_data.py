"""Maps over a picture: masks, heat maps, feature maps of one height and width."""

from typing import Any

import numpy as np
from torch import Tensor
from typing_extensions import Self

from footplate.errors import ArgumentError
from footplate.structures.data_element import BaseDataElement
from footplate.structures.element_fields import FieldKind, FieldType


class PixelData(BaseDataElement):
    """Tensors or arrays ``(C, H, W)`` of one height and width; one of ``(H, W)`` becomes ``(1, H, W)``.

    Indexing by rows and columns crops every field at once.

    Example:
        >>> import torch
        >>> from footplate.structures import PixelData
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
        """Sets one field, as `BaseDataElement.set_field` does.

        Raises:
            ArgumentError: It is no map, or its height and width are not those of the fields that are there.
        """
        if field_type == "data":
            value = self._as_map(value, name)
        super().set_field(value, name, dtype, field_type)

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width, or None when there is no field."""
        return next((tuple(value.shape[-2:]) for value in self.__dict__.values()), None)

    def __getitem__(self, index: tuple[int | slice, int | slice]) -> Self:
        if not isinstance(index, tuple) or len(index) != 2:
            raise ArgumentError("maps are cropped by rows and columns, as in element[0:8, 4:12]", found=index)
        height, width = self.shape or (0, 0)
        rows, columns = _as_slice(index[0], height), _as_slice(index[1], width)
        return self._mapped(lambda value: value[:, rows, columns])

    def _as_map(self, value: Any, name: str) -> Any:
        if not isinstance(value, (Tensor, np.ndarray)) or value.ndim not in (2, 3):
            raise ArgumentError(
                f"the field '{name}' of maps is a tensor or an array (C, H, W) or (H, W)",
                found=tuple(value.shape) if hasattr(value, "shape") else value,
            )
        size = tuple(value.shape[-2:])
        for other, present in self.__dict__.items():
            if other not in (name, "_" + name) and tuple(present.shape[-2:]) != size:
                raise ArgumentError(f"the field '{name}' is {size}, '{other}' is {tuple(present.shape[-2:])}")
        return value[None] if value.ndim == 2 else value


def _as_slice(index: int | slice, length: int) -> slice:
    if isinstance(index, slice):
        return index
    if not -length <= index < length:
        raise IndexError(f"the map has {length} rows or columns there, so there is none at {index}")
    return slice(index % length, index % length + 1)
