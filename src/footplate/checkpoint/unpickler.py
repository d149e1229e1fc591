"""Unpickles data without importing or calling anything that it refers to.

Each name in a pickle is replaced with a placeholder class unless it is in `_NAMES`. This table lists everything needed
to build tensors, NumPy arrays and containers, and nothing that gives access to other code.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy.core": "numpy._core"}
_DTYPE_LETTERS = frozenset("biufcUS")


class OpaqueObject:
    """A placeholder for an object whose class was not imported.

    Attributes:
        name: The full name of the class or function.
        args: The arguments of the skipped constructor call.
        state: The state that unpickling would have set.
        items: For a dict subclass, its keys and values.
        elements: For a list or set subclass, its elements.
    """

    __slots__ = ("args", "elements", "items", "state")
    name = ""
    args: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *args: Any, **settings: Any) -> "OpaqueObject":  # noqa: D102
        placeholder = super().__new__(cls)
        placeholder.args = (*args, settings) if settings else args
        placeholder.state = None
        placeholder.items = {}
        placeholder.elements = []
        return placeholder

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
    """Returns a placeholder class for the class named `name`."""
    # There is no module with this name, so nothing can look up the source code of the class.
    return type("OpaqueObject", (OpaqueObject,), {"__slots__": (), "__module__": "opaque", "name": name})


class _Unfinished:
    """A NumPy object that cannot be built before its state is known.

    Args:
        build: Builds the object from its state.
    """

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.build = build


def _build_dtype(code: Any, *args: Any) -> Any:
    if type(code) is str and code[:1] in _DTYPE_LETTERS and code[1:].isdigit():
        return _Unfinished(lambda state: np.dtype(code).newbyteorder(state[1]))
    return opaque_class("numpy.dtype")(code, *args)


def _build_array(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if isinstance(dtype, np.dtype) and isinstance(content, (bytes, bytearray)):
        return np.frombuffer(bytearray(content), dtype).reshape(shape, order=order)
    return opaque_class("numpy.ndarray")(content, dtype, shape, order)


def _build_scalar(dtype: Any, content: Any = None) -> Any:
    if isinstance(dtype, np.dtype) and isinstance(content, bytes):
        return np.frombuffer(content, dtype)[0].item()
    return opaque_class("numpy.generic")(content)


def _build_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):  # any other codec could import a module
        raise pickle.UnpicklingError("the file contains bytes with an unsupported encoding")
    return str.encode(text, "latin1")


def _build_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any = None, hooks: Any = None, metadata: Any = None
) -> torch.Tensor:
    """Builds a tensor from its storage. Ignores `grad` and `hooks`."""
    return _build_typed_tensor(storage, offset, size, stride, grad, hooks, storage.dtype, metadata)


def _build_typed_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, metadata: Any = None
) -> torch.Tensor:
    if metadata and (metadata.get("conj") or metadata.get("neg")):
        raise pickle.UnpicklingError("the file contains a conjugate or negative view of a tensor")
    return torch.empty(0, dtype=dtype, device=storage.device).set_(storage.untyped(), offset, size, stride)


def _build_of_type(function: Any, tensor_class: Any, args: Any, state: Any) -> Any:
    return function(*args) if function in (_build_tensor, _build_typed_tensor) else opaque_class("tensor")(args)


_NAMES: dict[str, Any] = {
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
    "torch._utils._rebuild_tensor_v2": _build_tensor,
    "torch._utils._rebuild_tensor_v3": _build_typed_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data.detach(),
    "torch._tensor._rebuild_from_type_v2": _build_of_type,
    "torch.storage.UntypedStorage": torch.UntypedStorage,
    "torch.Size": lambda sizes: torch.Size(sizes),
    "torch.device": lambda *args: torch.device(*args),
    "collections.OrderedDict": lambda pairs=(): OrderedDict(pairs),
    "collections.defaultdict": lambda *args: dict(*args[1:]),
    "builtins.set": lambda values=(): set(values),
    "builtins.frozenset": lambda values=(): frozenset(values),
    "builtins.bytes": lambda: b"",
    "builtins.complex": lambda real, imaginary=0.0: complex(float(real), float(imaginary)),
    "_codecs.encode": _build_bytes,
    "numpy.dtype": _build_dtype,
    "numpy._core.multiarray._reconstruct": lambda *_: _Unfinished(
        lambda state: _build_array(state[4], state[2], state[1], "F" if state[3] else "C")
    ),
    "numpy._core.multiarray.scalar": _build_scalar,
    "numpy._core.numeric._frombuffer": _build_array,
}


_Base: Any = pickle._Unpickler  # the C implementation cannot restrict which objects receive a state


class Unpickler(_Base):  # type: ignore[misc]
    """Reads a pickle without executing code from it."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the constructor, constant or placeholder class for a name."""
        for old, new in _MODULES.items():
            if module == old or module.startswith(f"{old}."):
                module = new + module[len(old) :]
        full = f"{module}.{name}"
        return _NAMES[full] if full in _NAMES else opaque_class(full)

    def _set_state(self) -> None:
        """Sets the state of supported objects only. The inherited method would set attributes of any object."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Unfinished):
            built = target.build(state)
            self.stack[-1] = built
            self.memo.update({key: built for key, value in self.memo.items() if value is target})
        elif isinstance(target, OpaqueObject):
            target.state = state
        elif type(target) is OrderedDict:
            target.__dict__.update(state)
        else:
            name = type(target).__name__
            raise pickle.UnpicklingError(
                f"loading it would set attributes of an object of type {name}, which is not allowed"
            )

    dispatch = {**_Base.dispatch, pickle.BUILD[0]: _set_state}  # noqa: RUF012
