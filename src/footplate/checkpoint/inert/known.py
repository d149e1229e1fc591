"""Maps the names in a checkpoint that stand for data to functions that build the values."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch

from footplate.checkpoint.inert import tensors
from footplate.checkpoint.inert.machine import Constructor, Deferred, Inert, Name, checked_key

_NUMERIC_KINDS = "biufc"
_DTYPE_LETTERS = frozenset("biufcUS")


class _Dtype(Deferred):
    """A numpy dtype whose byte order is set by its state."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self.value = np.dtype(code)

    def finish(self, state: Any) -> "_Dtype":
        """Sets the byte order from the state that numpy writes: (version, order, ...).

        Raises:
            ValueError: There is no such order.
        """
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("a numpy dtype has an unknown byte order")
        self.value = self.value.newbyteorder(order)
        return self


class _Array(Deferred):
    """A numpy array whose shape, dtype and content are set by its state."""

    def finish(self, state: Any) -> Any:
        """Builds the array from the state that numpy writes: (version, shape, dtype, is_fortran, content)."""
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            return Inert("numpy.ndarray", (shape,))
        return _array(content, dtype.value, shape, "F" if is_fortran else "C")


def _array(content: bytes, dtype: "np.dtype[Any]", shape: Any, order: Any) -> "np.ndarray[Any, Any]":
    shaped: np.ndarray[Any, Any] = np.frombuffer(content, dtype=dtype).reshape(shape, order=order)
    return shaped


def _dtype(code: Any, *_: Any) -> Any:
    if type(code) is not str or code[:1] not in _DTYPE_LETTERS or not code[1:].isdigit():
        return Inert("numpy.dtype", (code,))
    return _Dtype(code)


def _scalar(dtype: Any, content: Any = None) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        return Inert("numpy.generic", (content,))
    return np.frombuffer(content, dtype=dtype.value)[0].item()


def _array_from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(content, (bytes, bytearray)):
        return Inert("numpy.ndarray", (shape,))
    return _array(bytes(content), dtype.value, shape, order)


def _tensor_from_array(array: Any, dtype: Any, *_: Any) -> Any:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in _NUMERIC_KINDS:
        raise TypeError("a tensor is made from something that is no array")
    if not isinstance(dtype, torch.dtype) or dtype.itemsize > array.dtype.itemsize:
        raise TypeError("a tensor has larger elements than its array")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).to(dtype)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise TypeError("bytes are spelled in an unknown way")
    return text.encode("latin-1")


def _ordered_dict(pairs: Any = ()) -> "OrderedDict[Any, Any]":
    return OrderedDict((checked_key(key), value) for key, value in pairs)


def _plain_dict(*arguments: Any) -> dict[Any, Any]:
    return dict(arguments[-1]) if arguments and type(arguments[-1]) is dict else {}


def _set(values: Any = ()) -> set[Any]:
    return set(map(checked_key, values))


def _frozen_set(values: Any = ()) -> frozenset[Any]:
    return frozenset(map(checked_key, values))


def _byte_array(content: Any = b"", encoding: Any = None) -> bytearray:
    return bytearray(_encode(content, encoding) if encoding else content if type(content) is bytes else b"")


def _no_bytes() -> bytes:
    return b""


def _complex(real: Any, imaginary: Any = 0.0) -> complex:
    return complex(float(real), float(imaginary))


def _size(dimensions: Any) -> tuple[int, ...]:
    if not isinstance(dimensions, tuple) or any(type(length) is not int for length in dimensions):
        raise TypeError("a size is no tuple of numbers")
    return dimensions


def _device(kind: Any, index: Any = None) -> torch.device:
    if type(kind) is not str or type(index) not in (int, type(None)):
        raise TypeError("a device has no name")
    try:
        return torch.device(kind) if index is None else torch.device(kind, index)
    except RuntimeError as error:
        raise ValueError(f"'{kind}' is no device") from error


def _layout(name: Any) -> Any:
    return torch.strided if name == "torch.strided" else Inert(str(name) if type(name) is str else "layout")


def _from_type(function: Any, kind: Any, args: Any, state: Any) -> Any:
    if not isinstance(function, Name) or function not in CONSTRUCTORS or type(args) is not tuple:
        return Inert(str(kind), (args,))
    return CONSTRUCTORS[function](*args)


CONSTRUCTORS: dict[Name, Constructor] = {
    Name("collections", "OrderedDict"): _ordered_dict,
    Name("collections", "defaultdict"): _plain_dict,
    Name("collections", "Counter"): _plain_dict,
    Name("builtins", "set"): _set,
    Name("builtins", "frozenset"): _frozen_set,
    Name("builtins", "bytes"): _no_bytes,
    Name("builtins", "bytearray"): _byte_array,
    Name("builtins", "complex"): _complex,
    Name("_codecs", "encode"): _encode,
    Name("torch", "Size"): _size,
    Name("torch", "device"): _device,
    Name("torch.serialization", "_get_layout"): _layout,
    Name("torch._utils", "_rebuild_tensor"): tensors.rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): tensors.rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor_v3"): tensors.rebuild_tensor_of_dtype,
    Name("torch._utils", "_rebuild_meta_tensor_no_storage"): tensors.rebuild_meta_tensor,
    Name("torch._utils", "_rebuild_device_tensor_from_numpy"): _tensor_from_array,
    Name("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): tensors.rebuild_parameter,
    Name("torch._utils", "_rebuild_parameter"): tensors.rebuild_parameter,
    Name("torch._utils", "_rebuild_parameter_with_state"): tensors.rebuild_parameter,
    Name("torch.nn.parameter", "Parameter"): tensors.rebuild_parameter,
    Name("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    Name("numpy", "dtype"): _dtype,
    Name("numpy._core.multiarray", "scalar"): _scalar,
    Name("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    Name("numpy._core.numeric", "_frombuffer"): _array_from_buffer,
}

CONSTANTS: dict[Name, Any] = {
    Name("torch", name): getattr(torch, name) for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)
}
