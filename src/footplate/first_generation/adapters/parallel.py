"""Data containers, their collation, and `MMDataParallel` of first-generation code."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from footplate.data import pseudo_collate
from footplate.data.structures import BaseDataElement
from footplate.errors import ArgumentError, DataError
from footplate.registry import FUNCTIONS, MODEL_WRAPPERS


class DataContainer:
    """A value with settings for its collation.

    Args:
        data: The value.
        stack: Whether to stack the tensors of a batch, padded to the same size.
        padding_value: The padding value.
        cpu_only: Whether to keep the values on the CPU, in a list.
        pad_dims: The number of trailing dimensions to pad; None disables padding.
    """

    def __init__(
        self, data: Any, stack: bool = False, padding_value: float = 0, cpu_only: bool = False, pad_dims: int | None = 2
    ) -> None:
        if pad_dims not in (None, 1, 2, 3):
            raise ArgumentError("pad_dims must be None, 1, 2 or 3", key="pad_dims", found=pad_dims)
        self._data = data
        self.stack, self.padding_value = stack, padding_value
        self.cpu_only, self.pad_dims = cpu_only, pad_dims

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._data!r})"

    def __len__(self) -> int:
        return len(self._data)

    @property
    def data(self) -> Any:
        """The value; after collation, a list with one batch per process."""
        return self._data

    @property
    def datatype(self) -> Any:
        """The type of the tensor, or the class of another value."""
        return self._data.type() if isinstance(self._data, Tensor) else type(self._data)

    def size(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the size of the tensor."""
        return self._data.size(*args, **kwargs)

    def dim(self) -> int:
        """Returns the number of dimensions of the tensor."""
        return int(self._data.dim())


def collate(samples: Sequence[Any], samples_per_gpu: int = 1) -> Any:
    """Collates samples into a batch: data containers by their settings, tensors and numbers stacked.

    Second-generation samples, which contain data elements, are collated by `pseudo_collate`.

    Args:
        samples: The samples, all with the same structure.
        samples_per_gpu: Ignored; a batch always belongs to one process.

    Raises:
        DataError: Tensors differ in shape and are not in a data container.
    """
    if _holds_elements(samples[0]):
        return pseudo_collate(samples)
    first = samples[0]
    if isinstance(first, DataContainer):
        return _collate_containers(first, samples)
    if isinstance(first, Mapping):
        return {key: collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, Sequence) and not isinstance(first, (str, bytes)):
        return [collate(column) for column in zip(*samples, strict=True)]
    try:
        return default_collate(list(samples))
    except (TypeError, RuntimeError) as error:
        raise DataError(f"values of type {type(first).__name__} cannot be stacked: {error}") from error


def _holds_elements(sample: Any) -> bool:
    values = sample.values() if isinstance(sample, Mapping) else sample if isinstance(sample, (list, tuple)) else ()
    return any(isinstance(value, BaseDataElement) for value in values)


def _collate_containers(first: DataContainer, samples: Sequence[Any]) -> DataContainer:
    values = [sample.data for sample in samples]
    if first.cpu_only or not first.stack:
        return DataContainer([values], first.stack, first.padding_value, cpu_only=first.cpu_only)
    return DataContainer([_stacked(values, first)], True, first.padding_value)


def _stacked(values: list[Any], like: DataContainer) -> Tensor:
    tensors = [torch.as_tensor(value) for value in values]
    if like.pad_dims is not None:
        dims = like.pad_dims
        largest = [max(each.shape[-dim] for each in tensors) for dim in range(1, dims + 1)]
        tensors = [
            F.pad(
                each,
                [n for dim in range(1, dims + 1) for n in (0, largest[dim - 1] - each.shape[-dim])],
                value=like.padding_value,
            )
            for each in tensors
        ]
    return torch.stack(tensors)


def unpack_containers(data: Any) -> Any:
    """Replaces the data containers of a batch by their values."""
    if isinstance(data, DataContainer):
        return data.data[0]
    if isinstance(data, Mapping):
        return {key: unpack_containers(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)) and not hasattr(data, "_fields"):
        return type(data)([unpack_containers(value) for value in data])
    return data


def scatter(inputs: Any, target_gpus: Any = None, dim: int = 0) -> Any:
    """Unpacks the data containers of a batch; returns a tuple with the single part of this process."""
    return (unpack_containers(inputs),)


class MMDataParallel(nn.Module):
    """A wrapper that provides the model as `model.module`, as first-generation code expects it.

    Args:
        module: The model.
        options: Ignored; the run determines `device_ids` and similar settings.
    """

    def __init__(self, module: nn.Module, *args: Any, **options: Any) -> None:
        super().__init__()
        self.module: Any = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Calls the model with unpacked data containers."""
        return self.module(*unpack_containers(list(inputs)), **unpack_containers(kwargs))

    def train_step(self, *inputs: Any, **kwargs: Any) -> Any:
        """Calls the model's own `train_step`."""
        return self.module.train_step(*unpack_containers(list(inputs)), **unpack_containers(kwargs))

    def val_step(self, *inputs: Any, **kwargs: Any) -> Any:
        """Calls the model's own `val_step`."""
        return self.module.val_step(*unpack_containers(list(inputs)), **unpack_containers(kwargs))


FUNCTIONS.register_module(name="legacy_collate", module=collate)
MODEL_WRAPPERS.register_module(name=["MMDataParallel"], module=MMDataParallel)
