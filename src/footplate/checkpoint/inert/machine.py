"""A stack machine that reads the data in a pickle without executing code.

`pickletools` parses the opcodes of a pickle, and the machine interprets them. Opcodes that would import or call
(GLOBAL, REDUCE, NEWOBJ, BUILD ...) yield a `Name` or an `Inert`, unless the name is in the caller's table of
known functions.

Source: https://docs.python.org/3/library/pickletools.html
"""

import gc
import pickletools
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import torch

from footplate.errors import CheckpointError

_LARGEST_KEY = 2**53
_LONGEST_KEY = 64
_LONGEST_PART = 1000
_LARGEST_SHARED = 256
_DEFAULT_COST = 16
_BYTES_PER_TENSOR = 768  # without its elements
_BYTES_PER_ITEM = 128  # for a dict or set, while it grows
_BYTES_PER_INERT = 400
_MOST_MARKS = 1000  # each starts a container inside the previous one
# The memory in bytes that each opcode allocates: a small pickle must not exhaust the memory.
_COSTS = {
    **dict.fromkeys(["EMPTY_LIST", "LIST", "EMPTY_DICT", "DICT"], 240),
    **{"MARK": 56, "TUPLE": 120, "TUPLE1": 80, "TUPLE2": 88, "TUPLE3": 96},
    **dict.fromkeys(["EMPTY_SET", "FROZENSET", "GLOBAL", "STACK_GLOBAL"], 320),
    **dict.fromkeys(["REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ", "BUILD"], 320),
    **dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"], 112),
}
_PUSHED = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING", "FLOAT", "BINFLOAT"}).union(
    ["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"],
    ["BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"],
    ["UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"],
)
# Exceptions that invalid arguments from a hostile pickle can cause.
_NONSENSE = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError, RuntimeError),
    Warning,  # if warnings are turned into errors
)
_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy.core": "numpy._core"}


class Account(Protocol):
    """Counts the memory that a pickle uses, in bytes; `take` and `check` raise `CheckpointError` over the limit."""

    spent: int
    most: int

    def take(self, count: int) -> None:
        """Counts `count` more bytes."""

    def check(self, count: int) -> None:
        """Checks whether `count` more bytes are left."""


class Name(NamedTuple):
    """The name of a class or function in a pickle, which was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert:
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
        return f"<inert {self.name}>"


class Deferred:
    """A value that is incomplete until `finish` is called with its state."""

    def __init__(self) -> None:
        self.slots: list[int] = []

    def finish(self, state: Any) -> Any:
        """Returns the complete value.

        Raises:
            ValueError: The state makes no sense.
        """
        raise NotImplementedError


Constructor = Callable[..., Any]


class Machine:
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
        budget: Account,
    ) -> None:
        self._constructors = constructors
        self._constants = constants
        self._persistent = persistent
        self._budget = budget
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self.inert_names: dict[str, int] = {}

    def run(self, stream: IO[bytes]) -> Any:
        """Reads one pickle from the current position of `stream` and returns its value.

        Raises:
            CheckpointError: It is no pickle, or one that makes no sense, or one that would fill the memory.
        """
        self._stack, self._marks, self._memo = [], [], {}
        collects = gc.isenabled()
        gc.disable()  # nothing here is garbage, and collection would take most of the time
        try:
            return self._run(stream)
        except _NONSENSE as error:
            raise CheckpointError(f"the pickle in it makes no sense: {type(error).__name__}: {error}") from error
        finally:
            if collects:
                gc.enable()

    def _run(self, stream: IO[bytes]) -> Any:
        budget = self._budget
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            budget.spent += _COSTS.get(name, _DEFAULT_COST)
            if name in _PUSHED or type(argument) is str:
                budget.spent += _size_of(argument)
            if budget.spent > budget.most:
                budget.check(0)
            if name in _PUSHED:
                self._stack.append(argument)
            else:
                _OPERATIONS[name](self, argument)
        return self._stack.pop()

    def construct(self, function: Any, args: Any) -> Any:
        """Calls `function` with `args` if it is known; returns an `Inert` otherwise.

        Raises:
            TypeError: The arguments are no tuple. What a known function raises goes through.
        """
        if type(args) is not tuple:
            raise TypeError("the arguments of a call are no tuple")
        if isinstance(function, Name) and function in self._constructors:
            self._budget.take(sum(map(_weight, args)))  # the function may copy them
            made = self._constructors[function](*args)
            self._budget.take(_weight(made))
            return made
        name = str(function) if isinstance(function, Name) else getattr(function, "name", "unnamed")
        self.inert_names[str(name)] = self.inert_names.get(str(name), 0) + 1
        self._budget.take(_BYTES_PER_INERT)
        return Inert(str(name), args)

    def _popped_mark(self) -> list[Any]:
        start = self._marks.pop()
        self._budget.check(_DEFAULT_COST * (len(self._stack) - start))
        popped = self._stack[start:]
        del self._stack[start:]
        return popped

    def _pop_many(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("the stack is too short")
        popped = self._stack[-count:]
        del self._stack[-count:]
        return popped

    # One method per kind of opcode; `_OPERATIONS` maps the opcodes to them.

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self, _: Any) -> None:
        if len(self._marks) == _MOST_MARKS:
            raise CheckpointError("its values are nested too deeply")
        self._marks.append(len(self._stack))

    def _pop(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, index: int) -> None:
        value = self._stack[-1]
        self._memo[index] = value
        if isinstance(value, Deferred):
            value.slots.append(index)

    def _memoize(self, _: Any) -> None:
        self._put(len(self._memo))

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _tuple(self, count: int) -> None:
        self._stack.append(tuple(self._pop_many(count)))

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(values)
        elif isinstance(target, Inert):
            target.elements.extend(values)
        else:
            raise TypeError("values are appended to something that is no list")

    def _set_items(self, flat: list[Any]) -> None:
        target = self._stack[-1]
        items = target.items if isinstance(target, Inert) else target
        if type(items) not in (dict, OrderedDict) or len(flat) % 2:
            raise TypeError("items are set on something that is no dict")
        before = sys.getsizeof(items)
        self._budget.check(_BYTES_PER_ITEM * len(flat))
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            items[checked_key(key)] = value
        self._budget.take(sys.getsizeof(items) - before)

    def _dict(self, _: Any) -> None:
        flat = self._popped_mark()
        self._stack.append({})
        self._set_items(flat)

    def _add_items(self, _: Any) -> None:
        values, target = self._popped_mark(), self._stack[-1]
        if type(target) is not set:
            raise TypeError("items are added to something that is no set")
        self._budget.take(_BYTES_PER_ITEM * len(values))
        target.update(map(checked_key, values))

    def _global(self, spelling: str) -> None:
        module, _, name = spelling.partition(" ")
        self._push_name(module, name)

    def _stack_global(self, _: Any) -> None:
        module, name = self._pop_many(2)
        self._push_name(module, name)

    def _push_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name is no string")
        for old, new in _MODULES.items():
            if module == old or module.startswith(old + "."):
                module = new + module[len(old) :]
        found = Name(module, name)
        self._stack.append(self._constants.get(found, found))

    def _reduce(self, _: Any) -> None:
        function, args = self._pop_many(2)
        self._stack.append(self.construct(function, args))

    def _new_with_keywords(self, _: Any) -> None:
        kind, args, keywords = self._pop_many(3)
        self._stack.append(self.construct(kind, (*args, keywords) if keywords else args))

    def _object(self, _: Any) -> None:
        kind, *args = self._popped_mark()
        self._stack.append(self.construct(kind, tuple(args)))

    def _instance(self, spelling: str) -> None:
        args = tuple(self._popped_mark())
        self._global(spelling)
        self._stack.append(self.construct(self._stack.pop(), args))

    def _build(self, _: Any) -> None:
        target, state = self._pop_many(2)
        if isinstance(target, Inert):
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

    def _persistent_id(self, _: Any) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


def _size_of(argument: Any) -> int:
    """Returns the size of an opcode's argument in bytes; small integers count 0 because Python caches them."""
    return 0 if type(argument) is int and 0 <= argument <= _LARGEST_SHARED else sys.getsizeof(argument)


def _weight(value: Any) -> int:
    """Returns the size of a shallow copy of `value` in bytes."""
    if isinstance(value, torch.Tensor):
        return _BYTES_PER_TENSOR
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (list, tuple)):
        return _DEFAULT_COST * len(value)
    if isinstance(value, (dict, set, frozenset)):
        return _BYTES_PER_ITEM * len(value)
    return sys.getsizeof(value) if isinstance(value, (str, bytes, bytearray)) else 0


def checked_key(key: Any) -> Any:
    """Returns `key` after checking that it is quick to hash.

    Raises:
        ValueError: It is not: a large number, a nested tuple, a container.
    """
    if type(key) in (str, bytes, bool, type(None), Name, Inert):
        return key
    if type(key) in (int, float) and not abs(key) >= _LARGEST_KEY:
        return key
    if type(key) is tuple and len(key) <= _LONGEST_KEY and not any(map(_is_long, key)):
        return tuple(map(checked_key, key))
    raise ValueError(f"a dict or set has a key of type '{type(key).__name__}' that is not allowed")


def _is_long(part: Any) -> bool:
    """Returns whether the text of a part of a key may be long."""
    return type(part) is tuple or (isinstance(part, (str, bytes)) and len(part) > _LONGEST_PART)


def _refuse(machine: Machine, argument: Any) -> None:
    raise ValueError("it uses buffers or extensions that stand outside of it")


_Operation = Callable[[Machine, Any], None]
_OPERATIONS: dict[str, _Operation] = {
    "NONE": lambda machine, _: machine._push(None),
    "NEWTRUE": lambda machine, _: machine._push(True),
    "NEWFALSE": lambda machine, _: machine._push(False),
    "EMPTY_LIST": lambda machine, _: machine._push([]),
    "EMPTY_DICT": lambda machine, _: machine._push({}),
    "EMPTY_SET": lambda machine, _: machine._push(set()),
    "EMPTY_TUPLE": lambda machine, _: machine._push(()),
    "LIST": lambda machine, _: machine._push(machine._popped_mark()),
    "TUPLE": lambda machine, _: machine._push(tuple(machine._popped_mark())),
    "FROZENSET": lambda machine, _: machine._push(frozenset(map(checked_key, machine._popped_mark()))),
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "APPEND": lambda machine, _: machine._append(machine._pop_many(1)),
    "APPENDS": lambda machine, _: machine._append(machine._popped_mark()),
    "DICT": Machine._dict,
    "SETITEM": lambda machine, _: machine._set_items(machine._pop_many(2)),
    "SETITEMS": lambda machine, _: machine._set_items(machine._popped_mark()),
    "ADDITEMS": Machine._add_items,
    "POP": Machine._pop,
    "POP_MARK": lambda machine, _: machine._popped_mark().clear(),
    "DUP": Machine._duplicate,
    "MARK": Machine._mark,
    "GET": Machine._get,
    "BINGET": Machine._get,
    "LONG_BINGET": Machine._get,
    "PUT": Machine._put,
    "BINPUT": Machine._put,
    "LONG_BINPUT": Machine._put,
    "MEMOIZE": Machine._memoize,
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._new_with_keywords,
    "OBJ": Machine._object,
    "INST": Machine._instance,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent_id,
    "PERSID": lambda machine, argument: machine._push(machine._persistent(argument)),
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
}
_OPERATIONS.update(dict.fromkeys(["EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"], _refuse))
