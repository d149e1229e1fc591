"""Interprets pickles as data, without executing code.

`pickletools` parses the opcodes of a pickle, and the interpreter runs them on a stack. Opcodes that would import or
call (GLOBAL, REDUCE, NEWOBJ, BUILD ...) yield a `Name` or an `OpaqueObject`, unless the name is in the caller's table
of known functions.

Source: https://docs.python.org/3/library/pickletools.html
"""

import gc
import pickletools
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from footplate.errors import CheckpointError

if TYPE_CHECKING:
    from footplate.checkpoint.memory_budget import Budget

_LARGEST_KEY = 2**53
_LONGEST_KEY = 64
_LONGEST_PART = 1000
_LARGEST_CACHED = 256
_COST = 16
_BYTES_PER_TENSOR = 768  # without its elements
_BYTES_PER_ITEM = 128  # for a dict or set, while it grows
_BYTES_PER_OPAQUE_OBJECT = 400
_BYTES_PER_MEMO = 112
_MOST_MARKS = 1000  # each starts a container inside the previous one
# The memory in bytes that each opcode allocates: a small pickle must not exhaust the memory.
_COSTS = {
    **{"EMPTY_LIST": 160, "LIST": 160, "EMPTY_DICT": 120, "DICT": 120},
    **{"MARK": 56, "TUPLE": 120, "TUPLE1": 80, "TUPLE2": 88, "TUPLE3": 96},
    **dict.fromkeys(["EMPTY_SET", "FROZENSET", "GLOBAL", "STACK_GLOBAL"], 320),
    **dict.fromkeys(["REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "BUILD"], 320),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"], _BYTES_PER_MEMO),
}
_PUSHED = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING", "FLOAT", "BINFLOAT"}).union(
    ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"],
    ["BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"],
    ["UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"],
)
# Exceptions that invalid arguments from a hostile pickle can cause.
_INVALID = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RuntimeError),
    Warning,  # if warnings are turned into errors
)
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy.core": "numpy._core"}


class Name(NamedTuple):
    """The name of a class or function in a pickle, which was not imported."""

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
_Operation = Callable[["Interpreter", Any], None]
_OPERATIONS: dict[str, _Operation] = {}


def _handles(*opcodes: str) -> Callable[[_Operation], _Operation]:
    """Registers an operation for opcodes."""

    def register(operation: _Operation) -> _Operation:
        _OPERATIONS.update(dict.fromkeys(opcodes, operation))
        return operation

    return register


class Interpreter:
    """Interprets pickles, one after another.

    Args:
        constructors: Functions for known names; each is called with the arguments in the pickle and must check them.
        constants: Values for known names that are not functions.
        persistent: Returns the object for a persistent id.
        budget: Counts the memory of the values, over all pickles.
    """

    def __init__(
        self,
        constructors: Mapping[Name, Constructor],
        *,
        constants: Mapping[Name, Any],
        persistent: Callable[[Any], Any],
        budget: "Budget",
    ) -> None:
        self._constructors = constructors
        self._constants = constants
        self._persistent = persistent
        self._budget = budget
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.opaque_names: dict[str, int] = {}

    def run(self, stream: IO[bytes]) -> Any:
        """Reads one pickle from the current position of `stream` and returns its value.

        Raises:
            CheckpointError: The data is not a valid pickle, or it needs too much memory.
        """
        self._stack, self._marks, self._memo = [], [], {}
        budget = self._budget
        is_collecting = gc.isenabled()
        gc.disable()  # nothing here is garbage, and collection would take most of the time
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                name = opcode.name
                budget.used += _COSTS.get(name, _COST)
                if name in _PUSHED or type(argument) is str:
                    is_cached = type(argument) is int and 0 <= argument <= _LARGEST_CACHED
                    budget.used += 0 if is_cached else sys.getsizeof(argument)
                if budget.used > budget.limit:
                    budget.check(0)
                if name in _PUSHED:
                    self._stack.append(argument)
                else:
                    _OPERATIONS[name](self, argument)
            return self._stack.pop()
        except _INVALID as error:
            raise CheckpointError(f"its pickle is invalid: {type(error).__name__}: {error}") from error
        finally:
            budget.used -= _BYTES_PER_MEMO * len(self._memo)
            self._memo = {}
            if is_collecting:
                gc.enable()

    def construct(self, function: Any, args: Any) -> Any:
        """Calls `function` with `args` if it is known; returns an `OpaqueObject` otherwise.

        Raises:
            TypeError: The arguments are not a tuple. Exceptions of a known function are passed on.
        """
        if type(args) is not tuple:
            raise TypeError("the arguments of a call are not a tuple")
        if isinstance(function, Name) and function in self._constructors:
            self._budget.take(sum(map(_shallow_size, args)))  # the function may copy them
            made = self._constructors[function](*args)
            self._budget.take(_shallow_size(made))
            return made
        name = str(function) if isinstance(function, Name) else getattr(function, "name", "unnamed")
        self.opaque_names[str(name)] = self.opaque_names.get(str(name), 0) + 1
        self._budget.take(_BYTES_PER_OPAQUE_OBJECT)
        return OpaqueObject(str(name), args)

    def _pop_to_mark(self) -> list[Any]:
        start = self._marks.pop()
        self._budget.check(_COST * (len(self._stack) - start))
        popped = self._stack[start:]
        del self._stack[start:]
        return popped

    def _pop_many(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("the stack is too short")
        popped = self._stack[-count:]
        del self._stack[-count:]
        return popped

    # The operations: each method handles the opcodes that it names.

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    @_handles("MARK")
    def _mark(self, _: Any) -> None:
        if len(self._marks) == _MOST_MARKS:
            raise CheckpointError("its values are nested too deeply")
        self._marks.append(len(self._stack))

    @_handles("POP")
    def _pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    @_handles("DUP")
    def _duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    @_handles("PUT", "BINPUT", "LONG_BINPUT")
    def _put(self, index: int) -> None:
        value = self._stack[-1]
        self._memo[index] = value
        if isinstance(value, Deferred):
            value.slots.append(index)

    @_handles("MEMOIZE")
    def _memoize(self, _: Any) -> None:
        self._put(len(self._memo))

    @_handles("GET", "BINGET", "LONG_BINGET")
    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _tuple(self, count: int) -> None:
        self._stack.append(tuple(self._pop_many(count)))

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(values)
        elif isinstance(target, OpaqueObject):
            target.elements.extend(values)
        else:
            raise TypeError("values are appended to something that is not a list")

    def _set_items(self, flat: list[Any]) -> None:
        target = self._stack[-1]
        items = target.items if isinstance(target, OpaqueObject) else target
        if type(items) not in (dict, OrderedDict) or len(flat) % 2:
            raise TypeError("items are set on something that is not a dict")
        before = sys.getsizeof(items)
        self._budget.check(_BYTES_PER_ITEM * len(flat))
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            items[checked_key(key)] = value
        self._budget.take(sys.getsizeof(items) - before)

    @_handles("DICT")
    def _dict(self, _: Any) -> None:
        flat = self._pop_to_mark()
        self._stack.append({})
        self._set_items(flat)

    @_handles("ADDITEMS")
    def _add_items(self, _: Any) -> None:
        values, target = self._pop_to_mark(), self._stack[-1]
        if type(target) is not set:
            raise TypeError("items are added to something that is not a set")
        self._budget.take(_BYTES_PER_ITEM * len(values))
        target.update(map(checked_key, values))

    @_handles("GLOBAL")
    def _global(self, spelling: str) -> None:
        module, _, name = spelling.partition(" ")
        self._push_name(module, name)

    @_handles("STACK_GLOBAL")
    def _stack_global(self, _: Any) -> None:
        module, name = self._pop_many(2)
        self._push_name(module, name)

    def _push_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name is not a string")
        for old, new in _MODULES.items():
            if module == old or module.startswith(old + "."):
                module = new + module[len(old) :]
        found = Name(module, name)
        self._stack.append(self._constants.get(found, found))

    @_handles("REDUCE", "NEWOBJ")
    def _reduce(self, _: Any) -> None:
        function, args = self._pop_many(2)
        self._stack.append(self.construct(function, args))

    @_handles("NEWOBJ_EX")
    def _new_with_keywords(self, _: Any) -> None:
        kind, args, keywords = self._pop_many(3)
        self._stack.append(self.construct(kind, (*args, keywords) if keywords else args))

    @_handles("OBJ")
    def _object(self, _: Any) -> None:
        kind, *args = self._pop_to_mark()
        self._stack.append(self.construct(kind, tuple(args)))

    @_handles("INST")
    def _instance(self, spelling: str) -> None:
        args = tuple(self._pop_to_mark())
        self._global(spelling)
        self._stack.append(self.construct(self._stack.pop(), args))

    @_handles("BUILD")
    def _build(self, _: Any) -> None:
        target, state = self._pop_many(2)
        if isinstance(target, OpaqueObject):
            target.state = state
        elif isinstance(target, Deferred):
            finished = target.finish(state)
            self._memo.update(dict.fromkeys(target.slots, finished))
            target = finished
        elif isinstance(target, OrderedDict) and isinstance(state, dict):
            if isinstance(state.get("_metadata"), dict):
                target._metadata = state["_metadata"]  # type: ignore[attr-defined]
        else:
            raise TypeError("a state is set on something that has none")
        self._stack.append(target)

    @_handles("BINPERSID")
    def _persistent_id(self, _: Any) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


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
    return sys.getsizeof(value) if isinstance(value, (str, bytes, bytearray)) else 0


def checked_key(key: Any) -> Any:
    """Returns `key` after checking that it is quick to hash.

    Raises:
        ValueError: It is not: it is a large number, a nested tuple or a container.
    """
    if type(key) in (str, bytes, bool, type(None), Name, OpaqueObject):
        return key
    if type(key) in (int, float) and not abs(key) >= _LARGEST_KEY:
        return key
    if (
        type(key) is tuple
        and len(key) <= _LONGEST_KEY
        and not any(
            type(part) is tuple or (isinstance(part, (str, bytes)) and len(part) > _LONGEST_PART) for part in key
        )
    ):
        return tuple(map(checked_key, key))
    raise ValueError(f"a dict or set has a key of type '{type(key).__name__}' that is not allowed")


@_handles("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER")
def _refuse(interpreter: Interpreter, argument: Any) -> None:
    raise ValueError("it uses buffers or extensions outside of the file")


_OPERATIONS |= {
    "NONE": lambda interpreter, _: interpreter._push(None),
    "NEWTRUE": lambda interpreter, _: interpreter._push(True),
    "NEWFALSE": lambda interpreter, _: interpreter._push(False),
    "EMPTY_LIST": lambda interpreter, _: interpreter._push([]),
    "EMPTY_DICT": lambda interpreter, _: interpreter._push({}),
    "EMPTY_SET": lambda interpreter, _: interpreter._push(set()),
    "EMPTY_TUPLE": lambda interpreter, _: interpreter._push(()),
    "LIST": lambda interpreter, _: interpreter._push(interpreter._pop_to_mark()),
    "TUPLE": lambda interpreter, _: interpreter._push(tuple(interpreter._pop_to_mark())),
    "FROZENSET": lambda interpreter, _: interpreter._push(frozenset(map(checked_key, interpreter._pop_to_mark()))),
    "TUPLE1": lambda interpreter, _: interpreter._tuple(1),
    "TUPLE2": lambda interpreter, _: interpreter._tuple(2),
    "TUPLE3": lambda interpreter, _: interpreter._tuple(3),
    "APPEND": lambda interpreter, _: interpreter._append(interpreter._pop_many(1)),
    "APPENDS": lambda interpreter, _: interpreter._append(interpreter._pop_to_mark()),
    "SETITEM": lambda interpreter, _: interpreter._set_items(interpreter._pop_many(2)),
    "SETITEMS": lambda interpreter, _: interpreter._set_items(interpreter._pop_to_mark()),
    "POP_MARK": lambda interpreter, _: interpreter._pop_to_mark().clear(),
    "PERSID": lambda interpreter, argument: interpreter._push(interpreter._persistent(argument)),
    "PROTO": lambda interpreter, _: None,
    "FRAME": lambda interpreter, _: None,
    "STOP": lambda interpreter, _: None,
}
