"""Unpickles data without importing or calling anything that it refers to.

A name in a pickle becomes a class of placeholders, unless `_NAMES` contains it. This table is complete:
it builds tensors, NumPy arrays and containers, and contains nothing that can be used to reach other code.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import torch

_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy.core": "numpy._core"}
_DTYPE_LETTERS = frozenset("biufcUS")


class OpaqueObject:
    """A placeholder for an object whose class was not imported.

    Attributes:
        name: The full name of the class or function.
        args: The arguments of the call that was not made.
        state: The state that would have been set on the object.
        items: The keys and values that were set, if it is a dict subclass.
        elements: The elements that were added, if it is a list or set subclass.
    """

    __slots__ = ("args", "elements", "items", "state")
    name = ""
    args: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *args: Any, **settings: Any) -> "OpaqueObject":  # noqa: D102
        made = super().__new__(cls)
        made.args = (*args, settings) if settings else args
        made.state, made.items, made.elements = None, {}, []
        return made

    # The unpickler calls these methods. It would set arbitrary attributes on an object without `__setstate__`.
    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:  # noqa: D102
        self.elements.append(value)

    def extend(self, values: Any) -> None:  # noqa: D102
        self.elements.extend(values)

    add = append

    def __deepcopy__(self, memo: Any) -> "OpaqueObject":
        return self

    def __repr__(self) -> str:
        return f"<opaque {self.name}>"


def opaque_class(name: str) -> type[OpaqueObject]:
    """Returns a class of placeholders for the objects of a class."""
    # No module has this name, so that nothing looks for the source code of the class.
    return type("OpaqueObject", (OpaqueObject,), {"__slots__": (), "__module__": "opaque", "name": name})


class _Dtype:
    """A NumPy dtype whose byte order is part of its pickled state."""

    __slots__ = ("value",)

    def __init__(self, code: str) -> None:
        self.value = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("a NumPy dtype has an unknown byte order")
        self.value = self.value.newbyteorder(state[1])


class _Array(opaque_class("numpy.ndarray")):  # type: ignore[misc]
    """A NumPy array whose dtype and content are part of its pickled state."""

    __slots__ = ("array",)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        _, shape, dtype, is_fortran, content = state
        self.array: Any = self
        if isinstance(dtype, _Dtype) and isinstance(content, (bytes, bytearray)):
            self.array = np.frombuffer(bytearray(content), dtype.value).reshape(shape, order="F" if is_fortran else "C")


def _build_array(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", content))
    return array


def _build_dtype(code: Any, *_: Any) -> Any:
    is_plain = type(code) is str and code[:1] in _DTYPE_LETTERS and code[1:].isdigit()
    return _Dtype(code) if is_plain else opaque_class("numpy.dtype")(code)


def _build_scalar(dtype: Any, content: Any = None) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        return opaque_class("numpy.generic")(content)
    return np.frombuffer(content, dtype.value)[0].item()


def _build_of_type(function: Any, kind: Any, args: Any, state: Any) -> Any:
    return function(*args) if isinstance(function, _Constructor) else opaque_class("tensor")(args)


def _build_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):  # any other codec may be a module to import
        raise pickle.UnpicklingError("bytes have an unknown encoding")
    return str.encode(text, "latin1")


class _Constructor:
    """Wraps a function, so that a pickle can call it but not set its attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a function")


def _build_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any = None, hooks: Any = None, metadata: Any = None
) -> torch.Tensor:
    """Builds a tensor without gradients and hooks."""
    return _build_typed_tensor(storage, offset, size, stride, grad, hooks, storage.dtype, metadata)


def _build_typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> torch.Tensor:
    tensor = torch.empty(0, dtype=dtype, device=storage.device).set_(storage.untyped(), offset, size, stride)
    tensor = tensor.conj() if metadata and metadata.get("conj") else tensor
    return -tensor if metadata and metadata.get("neg") else tensor


_BUILDERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _build_tensor,
    "torch._utils._rebuild_tensor_v2": _build_tensor,
    "torch._utils._rebuild_tensor_v3": _build_typed_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data.detach(),
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data.detach(),
    "torch._tensor._rebuild_from_type_v2": _build_of_type,
    "torch.Size": lambda sizes: torch.Size(sizes),
    "torch.device": lambda *args: torch.device(*args),
    "collections.OrderedDict": lambda pairs=(): OrderedDict(pairs),
    "collections.defaultdict": lambda *args: dict(*args[1:]),
    "collections.Counter": lambda *args: dict(*args),
    "builtins.set": lambda values=(): set(values),
    "builtins.frozenset": lambda values=(): frozenset(values),
    "builtins.bytes": lambda: b"",
    "builtins.bytearray": lambda content=b"", *encoding: bytearray(
        _build_bytes(content, *encoding) if encoding else memoryview(content)
    ),
    "builtins.complex": lambda real, imaginary=0.0: complex(float(real), float(imaginary)),
    "_codecs.encode": _build_bytes,
    "numpy.dtype": _build_dtype,
    "numpy._core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy._core.multiarray.scalar": _build_scalar,
    "numpy._core.numeric._frombuffer": _build_array,
}
_UNTYPED = _Constructor(opaque_class("torch.storage.UntypedStorage"))
_NAMES: dict[str, Any] = {
    **{name: _Constructor(function) for name, function in _BUILDERS.items()},
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    "torch.storage.UntypedStorage": _UNTYPED,
}


_Base: Any = pickle._Unpickler  # the one in C allocates memory for the largest index that a file contains


class Unpickler(_Base):  # type: ignore[misc]
    """Reads one pickle as data.

    Attributes:
        classes: The classes of placeholders by the names of the classes and functions that pickles refer to.
    """

    classes: dict[str, type[OpaqueObject]]

    def __init__(self, file: IO[bytes], **settings: Any) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Returns the constructor, the constant or the class of placeholders for a name."""
        for old, new in _MODULES.items():
            if module == old or module.startswith(f"{old}."):
                module = new + module[len(old) :]
        full = f"{module}.{name}"
        if full in _NAMES:
            return _NAMES[full]
        if full not in self.classes:
            self.classes[full] = opaque_class(full)
        return self.classes[full]

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute. torch sets `persistent_load`, which expects a class that pickles must not reach."""
        if name == "persistent_load":
            find = value

            def value(identity: Any) -> Any:
                return find(tuple(torch.UntypedStorage if each is _UNTYPED else each for each in identity))

        super().__setattr__(name, value)

    def load(self) -> Any:
        """Returns the value of the pickle."""
        return _with_arrays(super().load(), {})


def unpickler_with(classes: dict[str, type[OpaqueObject]]) -> type[Unpickler]:
    """Returns an unpickler that adds its classes of placeholders to `classes`."""
    return type("Reader", (Unpickler,), {"classes": classes})


def _with_arrays(value: Any, seen: dict[int, Any]) -> Any:
    """Replaces the placeholders of complete arrays by the arrays."""
    if isinstance(value, _Array):
        return value.array
    if id(value) in seen or not isinstance(value, (dict, list, tuple, OpaqueObject)):
        return seen.get(id(value), value)
    seen[id(value)] = value
    if isinstance(value, dict):
        for key, each in value.items():
            value[key] = _with_arrays(each, seen)
    elif isinstance(value, list):
        value[:] = [_with_arrays(each, seen) for each in value]
    elif type(value) is tuple:
        seen[id(value)] = value = tuple(_with_arrays(each, seen) for each in value)
    elif isinstance(value, OpaqueObject):
        for name in OpaqueObject.__slots__:
            setattr(value, name, _with_arrays(getattr(value, name), seen))
    return value
