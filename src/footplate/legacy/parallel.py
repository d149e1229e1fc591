"""Batches and wrapped models of the first generation: data containers, their collation, and `MMDataParallel`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from footplate.data import pseudo_collate
from footplate.errors import ArgumentError, DataError
from footplate.registry import FUNCTIONS, MODEL_WRAPPERS
from footplate.structures import BaseDataElement


class DataContainer:
    """A value that says how it goes into a batch.

    Args:
        data: The value.
        stack: Stack the tensors of a batch, padded to one size.
        padding_value: What they are padded with.
        cpu_only: Keep the values in main memory, in a list.
        pad_dims: How many of the last dimensions are padded, None for none.
    """

    def __init__(
        self, data: Any, stack: bool = False, padding_value: float = 0, cpu_only: bool = False, pad_dims: int | None = 2
    ) -> None:
        if pad_dims not in (None, 1, 2, 3):
            raise ArgumentError("pad_dims is None, 1, 2 or 3", key="pad_dims", found=pad_dims)
        self._data = data
        self.stack, self.padding_value = stack, padding_value
        self.cpu_only, self.pad_dims = cpu_only, pad_dims

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._data!r})"

    def __len__(self) -> int:
        return len(self._data)

    @property
    def data(self) -> Any:
        """The value; of a batch, a list of one batch for each process."""
        return self._data

    @property
    def datatype(self) -> Any:
        """The tensor's type, or the value's class."""
        return self._data.type() if isinstance(self._data, Tensor) else type(self._data)

    def size(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the tensor's size."""
        return self._data.size(*args, **kwargs)

    def dim(self) -> int:
        """Returns how many dimensions the tensor has."""
        return int(self._data.dim())


def collate(samples: Sequence[Any], samples_per_gpu: int = 1) -> Any:
    """Puts samples into a batch: data containers as they say, tensors and numbers stacked.

    Samples of the second generation, which hold data elements, are listed.

    Args:
        samples: All of one structure.
        samples_per_gpu: Known to existing code; a batch is that of one process.

    Raises:
        DataError: Tensors differ in shape and no data container says how to pad them.
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


def opened(data: Any) -> Any:
    """Returns a batch without its containers."""
    if isinstance(data, DataContainer):
        return data.data[0]
    if isinstance(data, Mapping):
        return {key: opened(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)) and not hasattr(data, "_fields"):
        return type(data)([opened(value) for value in data])
    return data


def scatter(inputs: Any, target_gpus: Any = None, dim: int = 0) -> Any:
    """Returns a batch without its containers, as the one part that there is for this process."""
    return (opened(inputs),)


class MMDataParallel(nn.Module):
    """A model within a wrapper, as first-generation code finds it: `model.module` is the model itself.

    Args:
        module: The model.
        options: `device_ids` and its kin, which the run decides now.
    """

    def __init__(self, module: nn.Module, *args: Any, **options: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Calls the model with a batch out of its containers."""
        return self.module(*opened(list(inputs)), **opened(kwargs))

    def train_step(self, *inputs: Any, **kwargs: Any) -> Any:
        """Calls the model's own train step."""
        return self._step("train_step")(*opened(list(inputs)), **opened(kwargs))

    def val_step(self, *inputs: Any, **kwargs: Any) -> Any:
        """Calls the model's own validation step."""
        return self._step("val_step")(*opened(list(inputs)), **opened(kwargs))

    def _step(self, name: str) -> Callable[..., Any]:
        step: Callable[..., Any] = getattr(self.module, name)
        return step


FUNCTIONS.register_module(name="legacy_collate", module=collate)
MODEL_WRAPPERS.register_module(name=["MMDataParallel"], module=MMDataParallel)
