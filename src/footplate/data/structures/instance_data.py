"""A data element for the instances in an image: one box, label, score or mask per instance."""

import itertools
from collections.abc import Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footplate.data.structures.data_element import BaseDataElement
from footplate.data.structures.element_fields import FieldKind, FieldType
from footplate.errors import ArgumentError

Index: TypeAlias = int | slice | list[int] | list[bool] | Tensor | NDArray[Any]


class InstanceData(BaseDataElement):
    """A data element whose fields have a common length N, the number of instances.

    Fields may be tensors ``(N, ...)``, arrays ``(N, ...)``, lists, tuples, strings, or other sequences.
    Indexing selects the same instances from all fields.

    Example:
        >>> import torch
        >>> from footplate.data.structures import InstanceData
        >>> found = InstanceData(bboxes=torch.zeros(3, 4), scores=torch.tensor([0.9, 0.2, 0.7]))
        >>> len(found[found.scores > 0.5])
        2
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
            ArgumentError: The value has no length, or another length than the existing fields.
        """
        if field_type == "data":
            self._check_length(value, name)
        super().set_field(value, name, dtype, field_type)

    @staticmethod
    def cat(instances: Sequence["InstanceData"]) -> "InstanceData":
        """Concatenates several elements; the result has the metainfo of the first one.

        Raises:
            ArgumentError: `instances` is empty, or the elements have different fields.
        """
        if not instances:
            raise ArgumentError("cannot concatenate an empty list of instances")
        first = instances[0]
        for other in instances:
            if set(other.keys()) != set(first.keys()):
                raise ArgumentError(
                    "cannot concatenate instances with different fields",
                    notes=[", ".join(first.keys()), ", ".join(other.keys())],
                )
        names = first.keys()
        return first.new(**{name: _concatenate([each.get(name) for each in instances]) for name in names})

    def __len__(self) -> int:
        return next((len(value) for value in self.__dict__.values()), 0)

    def __getitem__(self, index: Index | str) -> Any:
        if isinstance(index, str):
            return getattr(self, index)
        if isinstance(index, (int, np.integer)):
            index = self._as_slice(int(index))
        elif not isinstance(index, slice):
            index = self._as_positions(index)
        return self._map_data(lambda value: _select(value, index))

    def _as_slice(self, index: int) -> slice:
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"index {index} is out of range for {length} instances")
        return slice(index % length, index % length + 1)

    def _as_positions(self, index: list[int] | list[bool] | Tensor | NDArray[Any]) -> Tensor:
        chosen = torch.as_tensor(index)
        if chosen.dim() != 1:
            raise ArgumentError("an index of instances must be one-dimensional", found=chosen.shape)
        if chosen.dtype == torch.bool:
            if len(chosen) != len(self):
                raise ArgumentError(f"a boolean index of length {len(chosen)} does not fit {len(self)} instances")
            return chosen.nonzero().flatten()
        return chosen.long()

    def _check_length(self, value: Any, name: str) -> None:
        if not isinstance(value, Sized):
            raise ArgumentError(f"the field '{name}' of InstanceData must have a length", found=value)
        for other, present in self.__dict__.items():
            if other not in (name, "_" + name) and len(present) != len(value):
                raise ArgumentError(
                    f"the fields of InstanceData must have one length, but '{name}' has {len(value)} "
                    f"and '{other}' has {len(present)}"
                )


def _select(value: Any, index: slice | Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[index if isinstance(index, slice) else index.to(value.device)]
    if isinstance(value, np.ndarray):
        return value[index if isinstance(index, slice) else index.cpu().numpy()]
    if isinstance(value, (list, tuple)) and isinstance(index, Tensor):
        return type(value)([value[at] for at in index.tolist()])
    if isinstance(value, str) and isinstance(index, Tensor):
        return "".join(value[at] for at in index.tolist())
    return value[index]


def _concatenate(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, np.ndarray):
        return np.concatenate(list(values))
    if isinstance(first, (list, tuple)):
        return type(first)(itertools.chain.from_iterable(values))
    if isinstance(first, str):
        return "".join(values)
    if hasattr(first, "cat"):
        return first.cat(values)
    raise ArgumentError(f"cannot concatenate fields of type {type(first).__name__}")
