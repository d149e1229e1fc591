"""Converts a run's state to the types that `torch.load(..., weights_only=True)` accepts, and splits it into shards.

A state is split into the shards of its tensors and a remaining state, in which references replace the tensors.
"""

import math
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Set
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from footplate.checkpoint.unpickler import OpaqueObject
from footplate.distributed import is_main_process
from footplate.distributed.sharding import full_tensor, is_dtensor, local_tensor
from footplate.errors import CheckpointError

_T = TypeVar("_T")
_UNCHANGED = frozenset({type(None), bool, float, complex, str, torch.dtype, torch.device})
_ATOMS = _UNCHANGED | {int, bytes}
_LONGEST_INTEGER = 2039  # bits; the maximum that torch's weights-only reader accepts
_MARK = "footplate.sharded"
_SPLIT_SECTIONS = re.compile(r"(state_dict|optimizer|ema_state_dict)\.")


def to_serializable(value: Any) -> Any:
    """Converts `value` to types that can be read back without executing code.

    Tensors are detached. A view of a larger storage is copied, so that the rest of the storage is not written. NumPy
    arrays become tensors (string arrays become lists), NumPy scalars become Python scalars, mappings become dicts,
    named tuples become tuples, and deques become lists.

    Raises:
        CheckpointError: The state contains a value of another type. The message contains its key path.
    """
    return _convert(value, "", set())


def walk(value: Any) -> Iterator[Any]:
    """Yields `value` and everything inside it in order. A container that occurs several times is yielded once."""
    pending, seen = [value], set()
    while pending:
        entry = pending.pop()
        inner: list[Any] | None = None
        if isinstance(entry, Mapping):
            inner = list(entry.values())
        elif isinstance(entry, OpaqueObject):
            inner = [entry.args, entry.state, entry.items, entry.elements]
        elif isinstance(entry, (list, tuple)):
            inner = list(entry)
        if inner is not None:
            if id(entry) in seen:
                continue
            seen.add(id(entry))
            pending.extend(reversed(inner))
        yield entry


def rebuild(state: Any, replace: Callable[[str, Any], Any], name: str = "") -> Any:
    """Returns a copy of nested containers in which tensors and mappings are replaced.

    Args:
        state: The state.
        replace: Called with the key path and the value of each tensor and mapping. If it returns the value itself, a
            tensor is kept unchanged, and a mapping is processed recursively.
        name: The key path of the state.
    """
    if isinstance(state, (torch.Tensor, Mapping)) and (found := replace(name, state)) is not state:
        return found
    if isinstance(state, Mapping):
        copied: dict[Any, Any] = OrderedDict() if isinstance(state, OrderedDict) else {}
        for key, each in state.items():
            copied[key] = rebuild(each, replace, f"{name}.{key}" if name else str(key))
        if isinstance(copied, OrderedDict) and hasattr(state, "_metadata"):
            copied._metadata = state._metadata  # type: ignore[attr-defined]
        return copied
    if type(state) in (list, tuple):
        return type(state)(
            each if type(each) in _ATOMS else rebuild(each, replace, f"{name}[{place}]")
            for place, each in enumerate(state)
        )
    return state


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Returns all tensors of a state, in order."""
    return [entry for entry in walk(value) if isinstance(entry, torch.Tensor)]


def bytes_in(state: Any) -> int:
    """Returns the total size in bytes of all tensors of a state. Shared storages count once."""
    storages = (tensor.untyped_storage() for tensor in tensors_in(state))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _convert(value: Any, key: str, parents: set[int]) -> Any:
    if type(value) in _UNCHANGED:
        return value
    if isinstance(value, torch.Tensor):
        return _convert_tensor(value, key)
    if isinstance(value, (np.ndarray, np.generic, str, int, float, bytes)):
        return _convert_leaf(value, key)
    if id(value) in parents:
        raise CheckpointError("the state contains a circular reference, which cannot be saved", key=key)
    parents.add(id(value))
    converted: Any
    if isinstance(value, (list, tuple, deque)):
        converted = [_convert(entry, f"{key}[{index}]", parents) for index, entry in enumerate(value)]
        converted = tuple(converted) if isinstance(value, tuple) else converted
    elif isinstance(value, Mapping):
        converted = OrderedDict() if isinstance(value, OrderedDict) else {}
        for name, entry in value.items():
            path = f"{key}.{name}" if key else str(name)
            converted[_convert_key(name, path)] = _convert(entry, path, parents)
        metadata = getattr(value, "_metadata", None)  # the layer versions in the state dict of a module
        if isinstance(converted, OrderedDict) and isinstance(metadata, Mapping):
            converted._metadata = _convert(metadata, f"{key}._metadata", parents)  # type: ignore[attr-defined]
    elif type(value) is set:
        converted = {_convert_key(entry, key) for entry in value}
    else:
        raise _unsupported(value, key)
    parents.discard(id(value))
    return converted


def _convert_tensor(value: torch.Tensor, key: str) -> torch.Tensor:
    if type(value) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
        raise _unsupported(value, key)
    value = value.detach()
    if value.device.type == "meta":
        raise CheckpointError("a tensor on the meta device cannot be saved", key=key)
    if value.is_quantized:
        raise CheckpointError("a quantized tensor cannot be saved", key=key)
    if value.layout != torch.strided:
        raise CheckpointError(f"a tensor of layout '{value.layout}' cannot be saved", key=key)
    value = value.resolve_conj().resolve_neg()
    is_view = value.numel() * value.element_size() < value.untyped_storage().nbytes()
    return value.clone() if is_view else value


def _convert_leaf(value: Any, key: str) -> Any:
    """Converts a value that is not a container to a type that `torch.load` accepts.

    Converts NumPy scalars to Python scalars, NumPy arrays to tensors (string arrays to lists), and instances of
    subclasses of str, int, float and bytes, such as enum members, to the built-in type.
    """
    if isinstance(value, np.generic):
        scalar = value.item()
        if type(scalar) not in _ATOMS:
            raise _unsupported(value, key)
        return scalar
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "US":
            return value.tolist()
        try:
            return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
        except TypeError as error:
            raise CheckpointError(f"a NumPy array of dtype '{value.dtype}' cannot be saved", key=key) from error
    if isinstance(value, int) and value.bit_length() > _LONGEST_INTEGER:
        raise CheckpointError(f"an integer with more than {_LONGEST_INTEGER} bits cannot be saved", key=key)
    if isinstance(value, bytes) and not value:
        raise CheckpointError(
            "empty bytes cannot be saved, because PyTorch's weights-only reader rejects them", key=key
        )
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    return int(value) if isinstance(value, int) else float(value)


def _convert_key(key: Any, path: str) -> Hashable:
    key = key.item() if isinstance(key, np.generic) else key
    if isinstance(key, tuple):
        return tuple(_convert_key(part, path) for part in key)
    for kind in (str, bool, int, float):
        if isinstance(key, kind):
            return kind(key)
    if key is None:
        return None
    raise CheckpointError(f"a key of type '{type(key).__name__}' cannot be saved", key=path, found=key)


def _unsupported(value: Any, key: str) -> CheckpointError:
    kind = type(value)
    return CheckpointError(
        f"an object of type '{kind.__module__}.{kind.__qualname__}' cannot be saved in a checkpoint",
        key=key,
        notes=["A state may contain tensors, numbers, strings, lists, tuples and dicts."],
    )


class Shard(NamedTuple):
    """A shard of a tensor on one rank."""

    tensor: torch.Tensor  # the values
    offsets: tuple[int, ...]  # the start of the shard in each dimension of the whole tensor
    size: tuple[int, ...]  # the shape of the whole tensor


Cut = Callable[[str, torch.Tensor], Shard | None]


def split_state(state: Any, cut: Cut = lambda name, tensor: None) -> tuple[Any, dict[str, Shard]]:
    """Replaces the sharded tensors of a state with references to their names.

    Args:
        state: Containers and tensors.
        cut: Called with the name and value of each tensor that is not a DTensor. Returns the shard that this rank
            writes, or None to keep the tensor in the state.

    Returns:
        The state with references, and a dict that maps names to shards.
    """
    shards: dict[str, Shard] = {}
    names: dict[Any, str] = {}  # by memory location, for tensors that share memory

    def replace(name: str, tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor):
            return tensor
        local = local_tensor(tensor.detach())
        key = (local.data_ptr() or id(tensor), local.storage_offset(), tuple(tensor.shape), tensor.stride())
        if key in names:
            return {_MARK: names[key]}
        shard: Shard | None
        if is_dtensor(tensor):
            (chunk,) = tensor.__create_chunk_list__()  # type: ignore[attr-defined]
            shard = Shard(local, tuple(chunk.offsets), tuple(tensor.shape))
        else:
            shard = cut(name, tensor.detach())
        if shard is None:
            return tensor
        if not math.prod(shard.size):
            return torch.empty(shard.size, dtype=tensor.dtype)
        names[key], shards[name] = name, shard
        return {_MARK: name}

    return rebuild(state, replace), shards


def join_state(state: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Replaces the references in a state from `split_state` with tensors.

    Raises:
        CheckpointError: A tensor is missing.
    """

    def replace(_: str, value: Any) -> Any:
        if isinstance(value, torch.Tensor) or len(value) != 1 or _MARK not in value:
            return value
        name = value[_MARK]
        if type(name) is not str or name not in tensors:
            raise CheckpointError(f"the tensor '{name}' is missing")
        return tensors[name]

    return rebuild(state, replace)


def gather_full_state(state: _T) -> _T:
    """Gathers the sharded tensors of a state on the CPU of rank 0, one at a time. Every rank must call this.

    Other ranks get empty tensors in their place.
    """
    gathered: dict[int, torch.Tensor] = {}  # by memory location, for tensors that share memory

    def replace(_: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not is_dtensor(value):
            return value
        key = local_tensor(value).data_ptr() or id(value)
        if key not in gathered:
            full = full_tensor(value.detach())
            gathered[key] = full.cpu() if is_main_process() else torch.empty(0)
        return gathered[key]

    return rebuild(state, replace)  # type: ignore[no-any-return]


def cut_evenly(number: int, count: int) -> Cut:
    """Returns a `cut` function for `split_state`. It splits tensors along dim 0, and returns shard `number` of `count`.

    Only floating-point tensors of the weights, averaged weights and optimizer state are split.
    """

    def cut(name: str, tensor: torch.Tensor) -> Shard | None:
        if not _SPLIT_SECTIONS.match(name) or not tensor.dim() or not tensor.is_floating_point() or not tensor.numel():
            return None
        length = -(-tensor.shape[0] // count)
        begin = min(number * length, tensor.shape[0])
        return Shard(tensor[begin : begin + length], (begin, *[0] * (tensor.dim() - 1)), tuple(tensor.shape))

    return cut


def cut_replicated(addresses: Set[int], number: int, count: int) -> Cut:
    """Returns a `cut` function for `split_state` that splits only the tensors whose memory addresses are given."""
    evenly = cut_evenly(number, count)
    return lambda name, tensor: evenly(name, tensor) if tensor.untyped_storage().data_ptr() in addresses else None
