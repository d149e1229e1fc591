"""Digests of values, and of the attributes of the objects that a run consists of."""

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from footplate.errors import is_own_module

_OF_EVERY_MODULE = vars(nn.Module()).keys()
# Objects of these packages have no state of the user, or cannot be read.
_OPAQUE = frozenset({"_io", "_thread", "asyncio", "concurrent", "logging", "multiprocessing", "threading", "weakref"})
# Objects of the engine, which restore what they need, and would lead to all others.
_ENGINE = ("footplate.config", "footplate.engine", "footplate.hooks", "footplate.records")
_MAX_ATTRIBUTES = 20_000  # of a run


def digest(value: Any) -> str:
    """Returns a digest of a value that is the same in each process. Objects count with their attributes."""
    try:
        text = json.dumps(value, default=_encode)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, or a value that contains itself
        text = repr(value)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _encode(value: Any) -> Any:
    """Returns what `json` encodes instead of a value."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_meta:
            return str(value)
        # A copy, because the stride of a single item may be 0.
        raw = value.detach().cpu().reshape(-1).clone(memory_format=torch.contiguous_format).view(torch.uint8)
        return [str(value.dtype), value.shape, hashlib.blake2b(raw.numpy().data).hexdigest()]
    if isinstance(value, (type, FunctionType, MethodType, ModuleType)):
        return getattr(value, "__qualname__", value.__name__)
    state = _state_of_generator(value)
    if state is not None:
        return state
    if isinstance(value, (set, frozenset)):
        return sorted(map(digest, value))
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return value.tolist()
    if hasattr(value, "tobytes"):  # arrays and images
        details = [str(getattr(value, name, "")) for name in ("dtype", "shape", "mode", "size")]
        return [*details, hashlib.blake2b(value.tobytes()).hexdigest()]
    if isinstance(value, (bytes, bytearray, complex)):
        return repr(value)
    if isinstance(value, Mapping):
        return dict(value)
    return [type(value).__qualname__, getattr(value, "__dict__", "")]


def _state_of_generator(value: Any) -> Any:
    """Returns the state of a random number generator, or None for other values."""
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.RandomState):
        return value.get_state(legacy=False)
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, torch.Generator):
        return value.get_state()
    return None


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields the values in nested dicts and lists with their key paths."""
    fields: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else ()
    if isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple, Tensor)) for item in value):
        fields = enumerate(value)
    if not fields:
        yield path, value
    for key, item in fields:
        yield from leaves(item, f"{path}.{key}")


def digest_attributes(roots: Mapping[str, Any]) -> dict[str, str]:
    """Returns a digest of each attribute of objects, and of the objects in their attributes, keyed by path.

    The path ends with the class that owns the attribute. Plain attributes of footplate's and torch's own classes are
    left out, because they restore what they need.

    Args:
        roots: The objects, keyed by name.
    """
    digests: dict[str, str] = {}
    seen: set[int] = set()
    pending = [(name, value, "") for name, value in reversed([*roots.items()])]
    while pending and len(digests) < _MAX_ATTRIBUTES:
        path, value, owner = pending.pop()
        fields = _fields(value)
        if fields is None:
            if owner:
                digests[f"{path} of {owner}"] = digest(value)
        elif id(value) not in seen:
            seen.add(id(value))
            kind = type(value)
            # A container belongs to the object that it is in.
            inner = owner if kind.__module__ == "builtins" or isinstance(value, Mapping) else kind.__name__
            if is_own_module(kind.__module__) or kind.__module__.partition(".")[0] in ("torch", "collections"):
                inner = ""
            pending += [(f"{path}{name}", item, inner or _owner_of(item, kind)) for name, item in reversed([*fields])]
    return digests


def _owner_of(item: Any, kind: type) -> str:
    """Returns the name of a class of footplate or torch if its attribute is a random generator or a tensor."""
    has_state = isinstance(item, Tensor) or _state_of_generator(item) is not None
    return kind.__name__ if has_state and kind.__module__ != "builtins" else ""


def _fields(value: Any) -> Iterable[tuple[str, Any]] | None:
    """Returns the parts of an object with what follows in their paths, or None for a value without parts."""
    kind = type(value)
    if isinstance(value, (type, FunctionType, MethodType, ModuleType)) or kind.__module__ in _OPAQUE:
        return ()
    if kind.__module__.startswith(_ENGINE):
        return ()
    if isinstance(value, nn.Module):
        own = {name: item for name, item in vars(value).items() if name not in _OF_EVERY_MODULE}
        lost = {name: value._buffers[name] for name in value._non_persistent_buffers_set}
        return [(f".{name}", item) for name, item in {**own, **lost, **value._modules}.items()]
    if isinstance(value, Mapping) and any(map(_has_fields, value.values())):
        return [(f"[{name!r}]", item) for name, item in value.items()]
    if isinstance(value, (list, tuple)) and any(map(_has_fields, value)):
        return [(f"[{number}]", item) for number, item in enumerate(value)]
    if _has_fields(value):
        # A subclass has the private attributes of footplate's class.
        is_subclass = any(is_own_module(base.__module__) for base in kind.__mro__)
        return [(f".{name}", item) for name, item in vars(value).items() if not (is_subclass and name[0] == "_")]
    return None


def _has_fields(value: Any) -> bool:
    is_value = isinstance(value, (Tensor, np.ndarray, Mapping)) or _state_of_generator(value) is not None
    return not is_value and hasattr(value, "__dict__")
