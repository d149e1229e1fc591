"""Builds tensors, arrays and other values from the names and arguments in a pickle.

`CONSTRUCTORS` and `CONSTANTS` contain every supported name. Each function checks its arguments and rejects shapes that
exceed their storage.
"""

import math
import mmap
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

from footplate.checkpoint.unpickler import Constructor, Deferred, Name, OpaqueObject, checked_key
from footplate.errors import CheckpointDamagedError, CheckpointError

_NUMERIC_KINDS = "biufc"
_DTYPE_LETTERS = frozenset("biufcUS")
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
_T = TypeVar("_T")

CONSTRUCTORS: dict[Name, Constructor] = {}
CONSTANTS: dict[Name, Any] = {
    Name("torch", name): getattr(torch, name) for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)
}


def _builds(*names: str) -> Callable[[Constructor], Constructor]:
    """Returns a decorator that registers a constructor under the given full names."""

    def register(constructor: Constructor) -> Constructor:
        for name in names:
            module, _, last = name.rpartition(".")
            CONSTRUCTORS[Name(module, last)] = constructor
        return constructor

    return register


class Storage:
    """A block of memory and the dtype of its elements.

    Args:
        memory: The bytes as a uint8 tensor `(nbytes,)`, on the meta device if only shapes are read.
        dtype: The dtype of the elements.
    """

    def __init__(self, memory: torch.Tensor, dtype: torch.dtype) -> None:
        self.memory = memory
        self.dtype = dtype

    def tensor(self, offset: Any, size: Any, stride: Any, dtype: torch.dtype) -> torch.Tensor:
        """Returns a view of the elements starting at `offset`, with the given `size` and `stride`.

        Raises:
            ValueError: The shape is invalid or exceeds the storage.
        """
        _check_extent(offset, size, stride, bytes_per_element=dtype.itemsize, available=self.memory.numel())
        empty = torch.empty(0, dtype=dtype, device=self.memory.device)
        return empty.set_(self.memory.untyped_storage(), offset, size, stride)


def storage_dtype(kind: Any) -> torch.dtype:
    """Returns the dtype of the storage class `kind`.

    Raises:
        CheckpointError: `kind` is not a storage class.
    """
    if isinstance(kind, Name) and kind.module in _STORAGE_MODULES and kind.name in _STORAGE_DTYPES:
        return _STORAGE_DTYPES[kind.name]
    raise CheckpointError(f"it contains a storage of the unknown type '{kind}'")


def empty_memory(size: int, device: "str | torch.device" = "cpu") -> torch.Tensor:
    """Returns uninitialized memory as a uint8 tensor `(size,)`.

    Raises:
        CheckpointError: Not enough memory is available.
    """
    try:
        return torch.empty(size, dtype=torch.uint8, device=device)
    except RuntimeError as error:
        raise CheckpointError(f"a tensor in it needs {size} bytes of memory, which are not available") from error


def mapped_memory(memory: mmap.mmap, start: int, size: int) -> torch.Tensor:
    """Returns `size` bytes of a memory-mapped file as a uint8 tensor `(size,)`. The tensor must not be modified.

    Raises:
        CheckpointDamagedError: The file has fewer bytes.
    """
    if start + size > len(memory):
        raise CheckpointDamagedError("a tensor storage extends past the end of the file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch has no read-only tensors
        return torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=start)


@_builds("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    return _require_type(storage, Storage).tensor(offset, size, stride, storage.dtype)


@_builds("torch._utils._rebuild_tensor_v3")
def _rebuild_tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, *_: Any
) -> torch.Tensor:
    return _require_type(storage, Storage).tensor(offset, size, stride, _require_type(dtype, torch.dtype))


@_builds("torch._utils._rebuild_meta_tensor_no_storage")
def _rebuild_meta_tensor(dtype: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    _check_extent(0, size, stride, bytes_per_element=0, available=_LARGEST_EXPANSION)
    return torch.empty_strided(size, stride, dtype=_require_type(dtype, torch.dtype), device="meta")


@_builds(
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch.nn.parameter.Parameter",
)
def _rebuild_parameter(data: Any, *_: Any) -> torch.Tensor:
    return _require_type(data, torch.Tensor)


def _require_type(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"a tensor is built from a {type(value).__name__} instead of a {kind.__name__}")
    return value


def _check_extent(offset: Any, size: Any, stride: Any, *, bytes_per_element: int, available: int) -> None:
    """Checks that an offset, size and stride are valid and that all elements lie inside the storage."""
    for dimensions in (size, stride):
        if not isinstance(dimensions, (tuple, torch.Size)) or len(dimensions) > _MOST_DIMENSIONS:
            raise ValueError("a tensor has an invalid shape")
    if len(size) != len(stride) or any(
        type(number) is not int or not 0 <= number < _LARGEST_NUMBER for number in (offset, *size, *stride)
    ):
        raise ValueError("a tensor has an invalid shape")
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if count else 0
    if count and (last + 1) * bytes_per_element > available:
        raise ValueError("a tensor has a shape that exceeds its storage")
    if count * bytes_per_element > max(available, _LARGEST_EXPANSION):
        raise ValueError("a tensor has a shape far larger than its storage")


class _Dtype(Deferred):
    """A NumPy dtype whose byte order is set later, from its pickled state."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.value = np.dtype(code)

    def finish(self, state: Any) -> "_Dtype":
        """Sets the byte order from the state that NumPy writes: (version, order, ...).

        Raises:
            ValueError: The order is unknown.
        """
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("a NumPy dtype has an unknown byte order")
        self.value = self.value.newbyteorder(order)
        return self


class _Array(Deferred):
    """A NumPy array whose shape, dtype and content are set later, from its pickled state."""

    def finish(self, state: Any) -> Any:
        """Builds the array from the state that NumPy writes: (version, shape, dtype, is_fortran, content)."""
        _, shape, dtype, is_fortran, content = state
        if not isinstance(content, bytes):  # copies of a bytearray would not count towards the budget
            return OpaqueObject("numpy.ndarray", (shape,))
        return _array_from_buffer(content, dtype, shape, "F" if is_fortran else "C")


@_builds("numpy.dtype")
def _dtype(code: Any, *_: Any) -> Any:
    if type(code) is not str or code[:1] not in _DTYPE_LETTERS or not code[1:].isdigit():
        return OpaqueObject("numpy.dtype", (code,))
    return _Dtype(code)


@_builds("numpy._core.multiarray.scalar")
def _scalar(dtype: Any, content: Any = None) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        return OpaqueObject("numpy.generic", (content,))
    return np.frombuffer(content, dtype=dtype.value)[0].item()


@_builds("numpy._core.numeric._frombuffer")
def _array_from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(content, (bytes, bytearray)):
        return OpaqueObject("numpy.ndarray", (shape,))
    return np.frombuffer(bytes(content), dtype=dtype.value).reshape(shape, order=order)


@_builds("torch._utils._rebuild_device_tensor_from_numpy")
def _tensor_from_array(array: Any, dtype: Any, *_: Any) -> Any:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in _NUMERIC_KINDS:
        raise TypeError("a tensor is built from something that is not an array")
    if not isinstance(dtype, torch.dtype) or dtype.itemsize > array.dtype.itemsize:
        raise TypeError("a tensor has larger elements than its array")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).to(dtype)


@_builds("_codecs.encode")
def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise TypeError("bytes have an unknown encoding")
    return text.encode("latin-1")


@_builds("collections.defaultdict", "collections.Counter")
def _dict(*arguments: Any) -> dict[Any, Any]:
    return dict(arguments[-1]) if arguments and type(arguments[-1]) is dict else {}


@_builds("builtins.bytearray")
def _byte_array(content: Any = b"", encoding: Any = None) -> bytearray:
    return bytearray(_encode(content, encoding) if encoding else content if type(content) is bytes else b"")


@_builds("torch.Size")
def _size(dimensions: Any) -> tuple[int, ...]:
    if not isinstance(dimensions, tuple) or any(type(length) is not int for length in dimensions):
        raise TypeError("a size is not a tuple of integers")
    return dimensions


@_builds("torch.device")
def _device(kind: Any, index: Any = None) -> torch.device:
    if type(kind) is not str or type(index) not in (int, type(None)):
        raise TypeError("a device has no name")
    try:
        return torch.device(kind) if index is None else torch.device(kind, index)
    except RuntimeError as error:
        raise ValueError(f"'{kind}' is not a device") from error


@_builds("torch.serialization._get_layout")
def _layout(name: Any) -> Any:
    return torch.strided if name == "torch.strided" else OpaqueObject(str(name) if type(name) is str else "layout")


@_builds("torch._tensor._rebuild_from_type_v2")
def _from_type(function: Any, kind: Any, args: Any, state: Any) -> Any:
    if not isinstance(function, Name) or function not in CONSTRUCTORS or type(args) is not tuple:
        return OpaqueObject(str(kind) if isinstance(kind, Name) else "tensor", (args,))
    return CONSTRUCTORS[function](*args)


CONSTRUCTORS |= {
    Name("collections", "OrderedDict"): lambda pairs=(): OrderedDict((checked_key(key), each) for key, each in pairs),
    Name("builtins", "set"): lambda values=(): set(map(checked_key, values)),
    Name("builtins", "frozenset"): lambda values=(): frozenset(map(checked_key, values)),
    Name("builtins", "bytes"): lambda: b"",
    Name("builtins", "complex"): lambda real, imaginary=0.0: complex(float(real), float(imaginary)),
    Name("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
}
