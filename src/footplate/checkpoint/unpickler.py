"""Reads pickles as data, without importing or calling anything that they refer to.

A name in a pickle becomes a `Name`. A call to it becomes an `OpaqueObject`, unless the caller's table of known
functions contains the name. Only the operations listed below are supported. Each one counts the memory that it
allocates.

Python's C unpickler cannot be restricted in this way, because it hashes keys and sets object state itself.

Source: https://docs.python.org/3/library/pickle.html
"""

import gc
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from footplate.errors import CheckpointDamagedError, CheckpointError

if TYPE_CHECKING:
    from footplate.checkpoint.memory_budget import Budget

_LARGEST_KEY = 2**53
_MOST_KEY_PARTS = 64
_LONGEST_KEY = 4096  # characters, because a key may be a path
_LARGEST_CACHED = 256  # Python preallocates the integers from 0 to 256
_COST = 16
_BYTES_PER_TENSOR = 768  # without its elements
_BYTES_PER_ITEM = 128  # for a dict or set, while it grows
_BYTES_PER_OPAQUE_OBJECT = 300  # without its name
_BYTES_PER_MEMO = 112
_MOST_MARKS = 1000  # each starts a container inside the previous one
# The operations that push a new value, whose memory is counted by its size.
_PUSHES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
# The other operations, with the memory in bytes that each allocates: a small pickle must not exhaust the memory.
_COSTS = {
    **dict.fromkeys(["PROTO", "FRAME", "STOP", "POP", "POP_MARK", "DUP", "GET", "BINGET", "LONG_BINGET"], _COST),
    **dict.fromkeys(["NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "PERSID", "BINPERSID"], _COST),
    **dict.fromkeys(["APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"], _COST),
    **{"EMPTY_LIST": 160, "LIST": 160, "EMPTY_DICT": 120, "DICT": 120},
    **{"MARK": 72, "TUPLE": 120, "TUPLE1": 80, "TUPLE2": 88, "TUPLE3": 96},
    **dict.fromkeys(["EMPTY_SET", "FROZENSET", "GLOBAL", "STACK_GLOBAL"], 320),
    **dict.fromkeys(["REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "BUILD"], 320),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"], _BYTES_PER_MEMO),
}
# Exceptions that invalid arguments from a hostile pickle can cause.
_INVALID = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RuntimeError, AssertionError),
    pickle.UnpicklingError,
    Warning,  # if warnings are turned into errors
)
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy.core": "numpy._core"}


class Name(NamedTuple):
    """The name of a class or function to which a pickle refers. It is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class OpaqueObject:
    """A placeholder for an object whose class was not imported.

    Attributes:
        name: The full name of the class or function.
        args: The arguments of the call that was not made.
        state: The state that would have been set on the object.
        items: The keys and values that were set, if it is a dict subclass.
        elements: The elements that were appended, if it is a list subclass.
    """

    __slots__ = ("args", "elements", "items", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.args = args
        self.state: Any = None
        self.items: dict[Any, Any] = {}
        self.elements: list[Any] = []

    def __repr__(self) -> str:
        return f"<opaque {self.name}>"


class Deferred:
    """A value that is incomplete until `finish` is called with its state."""

    def __init__(self) -> None:
        self.slots: list[int] = []

    def finish(self, state: Any) -> Any:
        """Returns the complete value.

        Raises:
            ValueError: The state is invalid.
        """
        raise NotImplementedError


Constructor = Callable[..., Any]


class _Memo(dict[int, Any]):
    """Maps indices to the values of a pickle. A deferred value stores its indices, because it is replaced later."""

    def __setitem__(self, index: int, value: Any) -> None:
        super().__setitem__(index, value)
        if isinstance(value, Deferred):
            value.slots.append(index)


def unpickle(
    stream: IO[bytes],
    constructors: Mapping[Name, Constructor],
    *,
    constants: Mapping[Name, Any],
    persistent: Callable[[Any], Any],
    budget: "Budget",
) -> Any:
    """Reads one pickle from the current position of `stream` and returns its value.

    Args:
        stream: The file.
        constructors: Maps known names to functions. Each one is called with the arguments in the pickle and must check
            them.
        constants: Maps known names that are not functions to their values.
        persistent: Returns the object for a persistent id.
        budget: Counts the memory of the values.

    Raises:
        CheckpointDamagedError: The data is truncated, or contains an unknown operation.
        CheckpointError: The data is not a valid pickle, or it needs too much memory.
    """
    unpickler = _Unpickler(stream, encoding="latin1")
    unpickler.memo = _Memo()
    unpickler.constructors, unpickler.constants = constructors, constants
    unpickler.persistent_load, unpickler.budget = persistent, budget
    is_collecting = gc.isenabled()
    gc.disable()  # nothing here is garbage, and collection would take most of the time
    try:
        return unpickler.load()
    except _INVALID as error:
        reason = ": ".join(filter(None, [type(error).__name__, str(error)]))
        raise CheckpointError(f"its pickle is invalid: {reason}") from error
    finally:
        budget.used -= _BYTES_PER_MEMO * len(unpickler.memo)
        if is_collecting:
            gc.enable()


_Base: Any = pickle._Unpickler  # the implementation in Python


class _Unpickler(_Base):  # type: ignore[misc]
    """Python's unpickler, with replacements for all operations that import, call or hash something, or set a state."""

    def load(self) -> Any:
        self.metastack: list[list[Any]] = []
        self.stack: list[Any] = []
        self.proto = 0
        self.append = self.stack.append
        try:
            while True:
                operation = self.dispatch.get(self.read(1)[0])
                if operation is None:
                    raise CheckpointDamagedError("its pickle contains an unknown operation")
                operation(self)
        except pickle._Stop as stop:  # type: ignore[attr-defined]
            return stop.value

    def read(self, count: int) -> bytes:
        data: bytes = self._file_read(count)
        if len(data) < count:
            raise CheckpointDamagedError("it is truncated in the middle of a pickle")
        return data

    def readline(self) -> bytes:
        line: bytes = self._file_readline()
        if line[-1:] != b"\n":
            raise CheckpointDamagedError("it is truncated in the middle of a pickle")
        return line

    def find_class(self, module: str, name: str) -> Any:
        self.budget.take(sys.getsizeof(module) + sys.getsizeof(name))
        for old, new in _MODULES.items():
            if module == old or module.startswith(old + "."):
                module = new + module[len(old) :]
        found = Name(module, name)
        return self.constants.get(found, found)

    def construct(self, function: Any, args: Any) -> Any:
        """Calls `function` with `args` if it is known. Otherwise, returns an `OpaqueObject`."""
        if type(args) is not tuple:
            raise TypeError("the arguments of a call are not a tuple")
        if isinstance(function, Name) and function in self.constructors:
            self.budget.take(sum(map(_shallow_size, args)))  # the function may copy them
            made = self.constructors[function](*args)
        else:
            name = str(function) if isinstance(function, Name) else getattr(function, "name", "unnamed")
            made = OpaqueObject(name, args)
        self.budget.take(_shallow_size(made))
        return made

    def load_frame(self) -> None:
        self.read(8)  # reading a whole frame at once would copy it

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.append(self.construct(self.stack.pop(), args))

    load_newobj = load_reduce

    def load_newobj_ex(self) -> None:
        kind, args, keywords = [self.stack.pop() for _ in range(3)][::-1]
        self.append(self.construct(kind, (*args, keywords) if keywords else args))

    def _instantiate(self, klass: Any, args: list[Any]) -> None:
        self.append(self.construct(klass, tuple(args)))

    def load_mark(self) -> None:
        if len(self.metastack) == _MOST_MARKS:
            raise CheckpointError("its values are nested too deeply")
        super().load_mark()

    def load_bytearray8(self) -> None:
        self.load_binbytes8()  # reads the bytes that exist instead of allocating the stated length
        self.append(bytearray(self.stack.pop()))

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        elements = target.elements if isinstance(target, OpaqueObject) else target
        if type(elements) is not list:
            raise TypeError("values are appended to something that is not a list")
        elements.extend(values)

    def load_setitem(self) -> None:
        value = self.stack.pop()
        self._set_items([self.stack.pop(), value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def load_dict(self) -> None:
        flat = self.pop_mark()
        self.append({})
        self._set_items(flat)

    def _set_items(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, OpaqueObject) else target
        if type(items) not in (dict, OrderedDict) or len(flat) % 2:
            raise TypeError("items are set on something that is not a dict")
        before = sys.getsizeof(items)
        self.budget.check(_BYTES_PER_ITEM * len(flat))
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            items[checked_key(key)] = value
        self.budget.take(sys.getsizeof(items) - before)

    def load_additems(self) -> None:
        values, target = self.pop_mark(), self.stack[-1]
        if type(target) is not set:
            raise TypeError("items are added to something that is not a set")
        self.budget.take(_BYTES_PER_ITEM * len(values))
        target.update(map(checked_key, values))

    def load_frozenset(self) -> None:
        values = self.pop_mark()
        self.append(frozenset(map(checked_key, values)))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, OpaqueObject):
            target.state = state
        elif isinstance(target, Deferred):
            self.stack[-1] = target.finish(state)
            self.memo.update(dict.fromkeys(target.slots, self.stack[-1]))
        elif not isinstance(target, OrderedDict) or not isinstance(state, dict):
            raise TypeError("it sets state on an object that does not support it")
        elif isinstance(state.get("_metadata"), dict):
            target._metadata = state["_metadata"]  # type: ignore[attr-defined]


def _shallow_size(value: Any) -> int:
    """Returns the size of a shallow copy of `value` in bytes."""
    if isinstance(value, torch.Tensor):
        return _BYTES_PER_TENSOR
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (list, tuple)):
        return _COST * len(value)
    if isinstance(value, (dict, set, frozenset)):
        return _BYTES_PER_ITEM * len(value)
    if isinstance(value, OpaqueObject):
        return _BYTES_PER_OPAQUE_OBJECT + sys.getsizeof(value.name)
    return sys.getsizeof(value) if isinstance(value, (str, bytes, bytearray)) else 0


def checked_key(key: Any) -> Any:
    """Returns `key` after checking that hashing and comparing it is fast.

    Raises:
        ValueError: The key is a large number, a long string, a nested tuple or a container.
    """
    if (type(key) is str and len(key) <= _LONGEST_KEY) or (type(key) is int and -_LARGEST_KEY < key < _LARGEST_KEY):
        return key  # the most common case
    entries = key if type(key) is tuple else (key,)
    parts = [part for entry in entries for part in (entry if type(entry) is Name else (entry,))]
    if len(entries) > _MOST_KEY_PARTS or not all(map(_is_plain, parts)):
        raise ValueError(f"a dict or set has a key of type '{type(key).__name__}' that is too large or not supported")
    if sum(len(part) for part in parts if isinstance(part, (str, bytes))) > _LONGEST_KEY:
        raise ValueError(f"a dict or set has a key longer than {_LONGEST_KEY} characters")
    return key


def _is_plain(value: Any) -> bool:
    if type(value) in (int, float):
        return not abs(value) >= _LARGEST_KEY
    return type(value) in (str, bytes, bool, type(None), OpaqueObject)


def _counted(name: str, cost: int | None) -> Callable[[_Unpickler], None]:
    """Returns an operation that counts its memory: `cost` bytes, or the size of the new value if `cost` is None."""
    operation = getattr(_Unpickler, _Base.dispatch[getattr(pickle, name)[0]].__name__)

    def push(unpickler: _Unpickler) -> None:
        operation(unpickler)
        value = unpickler.stack[-1]
        is_cached = type(value) is int and 0 <= value <= _LARGEST_CACHED
        unpickler.budget.take(_COST if is_cached else _COST + sys.getsizeof(value))

    def operate(unpickler: _Unpickler) -> None:
        unpickler.budget.take(cost)
        operation(unpickler)

    return push if cost is None else operate


def _refuse(unpickler: _Unpickler) -> None:
    raise ValueError("it uses buffers or extensions that are not in the file")


_Unpickler.dispatch = {
    getattr(pickle, name)[0]: _counted(name, cost) for name, cost in {**dict.fromkeys(_PUSHES), **_COSTS}.items()
} | {getattr(pickle, name)[0]: _refuse for name in ("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER")}
