"""Builds tensors from the storages of a checkpoint; refuses shapes that exceed their storage."""

import math
import mmap
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from footplate.checkpoint.inert.machine import Name
from footplate.errors import CheckpointDamagedError, CheckpointError

_MOST_DIMENSIONS = 64
_LARGEST_NUMBER = 2**48
_LARGEST_EXPANSION = 16 << 20

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")


class Storage:
    """Memory and the dtype of its elements.

    Args:
        memory: The bytes, `(nbytes,), uint8`; on the device 'meta' if only shapes are read.
        dtype: The dtype of the elements.
    """

    def __init__(self, memory: torch.Tensor, dtype: torch.dtype) -> None:
        self.memory = memory
        self.dtype = dtype

    def tensor(self, offset: Any, size: Any, stride: Any, dtype: torch.dtype) -> torch.Tensor:
        """Returns the elements from `offset` on, as a view with this `size` and `stride`.

        Raises:
            ValueError: The storage has not so many.
        """
        _check_extent(offset, size, stride, bytes_per_element=dtype.itemsize, available=self.memory.numel())
        empty = torch.empty(0, dtype=dtype, device=self.memory.device)
        return empty.set_(self.memory.untyped_storage(), offset, size, stride)


def storage_dtype(kind: Any) -> torch.dtype:
    """Returns the dtype of the storage class `kind`.

    Raises:
        CheckpointError: It is no storage class.
    """
    if isinstance(kind, Name) and kind.module in _STORAGE_MODULES and kind.name in _STORAGE_DTYPES:
        return _STORAGE_DTYPES[kind.name]
    raise CheckpointError(f"it holds a storage of the unknown kind '{kind}'")


def empty_memory(size: int, device: "str | torch.device" = "cpu") -> torch.Tensor:
    """Returns uninitialized memory, `(size,), uint8`.

    Raises:
        CheckpointError: There is not so much memory.
    """
    try:
        return torch.empty(size, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        raise CheckpointError(f"a tensor in it needs {size} bytes of memory, which are not there") from error


def mapped_memory(memory: mmap.mmap, start: int, size: int) -> torch.Tensor:
    """Returns a view of `size` bytes of a memory-mapped file, `(size,), uint8`, which must not be modified.

    Raises:
        CheckpointDamagedError: The file ends before.
    """
    if start + size > len(memory):
        raise CheckpointDamagedError("a storage in it lies behind its end")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors
        return torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=start)


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """Replaces `torch._utils._rebuild_tensor` and `_rebuild_tensor_v2`.

    Raises:
        TypeError: There is no storage.
        ValueError: The storage does not cover the shape.
    """
    checked = _storage(storage)
    return checked.tensor(offset, size, stride, checked.dtype)


def rebuild_tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, *_: Any
) -> torch.Tensor:
    """Replaces `torch._utils._rebuild_tensor_v3`.

    Raises:
        TypeError: There is no storage, or no dtype.
        ValueError: The storage does not cover the shape.
    """
    return _storage(storage).tensor(offset, size, stride, _dtype(dtype))


def rebuild_meta_tensor(dtype: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    """Replaces `torch._utils._rebuild_meta_tensor_no_storage`.

    Raises:
        TypeError: There is no dtype.
        ValueError: The shape is absurd.
    """
    _check_extent(0, size, stride, bytes_per_element=0, available=_LARGEST_EXPANSION)
    return torch.empty_strided(size, stride, dtype=_dtype(dtype), device="meta")


def rebuild_parameter(data: Any, *_: Any) -> torch.Tensor:
    """Replaces `torch._utils._rebuild_parameter`; returns the tensor itself.

    Raises:
        TypeError: There is no tensor.
    """
    if not isinstance(data, torch.Tensor):
        raise TypeError("a parameter is no tensor")
    return data


def _storage(value: Any) -> Storage:
    if not isinstance(value, Storage):
        raise TypeError("a tensor has no storage")
    return value


def _dtype(value: Any) -> torch.dtype:
    if not isinstance(value, torch.dtype):
        raise TypeError("a tensor has no dtype")
    return value


def _check_extent(offset: Any, size: Any, stride: Any, *, bytes_per_element: int, available: int) -> None:
    numbers = [offset, *_dimensions(size), *_dimensions(stride)]
    if len(size) != len(stride) or any(type(n) is not int or not 0 <= n < _LARGEST_NUMBER for n in numbers):
        raise ValueError("a tensor has an absurd shape")
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if count else 0
    if count and (last + 1) * bytes_per_element > available:
        raise ValueError("a tensor has a shape that reaches beyond its storage")
    if count * bytes_per_element > max(available, _LARGEST_EXPANSION):
        raise ValueError("a tensor has a shape far larger than its storage")


def _dimensions(value: Any) -> Sequence[Any]:
    if not isinstance(value, (tuple, torch.Size)) or len(value) > _MOST_DIMENSIONS:
        raise ValueError("a tensor has an absurd shape")
    return value
