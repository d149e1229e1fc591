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
_SCALARS: tuple[Any, ...] = (bool, int, float, complex, bytes)
_MAX_INTEGER_BITS = 2039  # accepted by torch's weights-only reader, which also rejects empty bytes
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
    try:
        return _convert(value, "")
    except RecursionError as error:
        raise CheckpointError("the state contains a circular reference, which cannot be saved") from error


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
            each if type(each) in _UNCHANGED or type(each) is int else rebuild(each, replace, f"{name}[{place}]")
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


def _convert(value: Any, key: str) -> Any:
    if type(value) in _UNCHANGED:
        return value
    if isinstance(value, torch.Tensor):
        return _convert_tensor(value, key)
    if isinstance(value, (list, tuple, deque)):
        entries = [_convert(entry, f"{key}[{index}]") for index, entry in enumerate(value)]
        return tuple(entries) if isinstance(value, tuple) else entries
    if isinstance(value, Mapping):
        converted: dict[Hashable, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
        for name, entry in value.items():
            path = f"{key}.{name}" if key else str(name)
            converted[_convert_key(name, path)] = _convert(entry, path)
        metadata = getattr(value, "_metadata", None)  # the layer versions in the state dict of a module
        if isinstance(converted, OrderedDict) and isinstance(metadata, Mapping):
            converted._metadata = _convert(metadata, f"{key}._metadata")  # type: ignore[attr-defined]
        return converted
    if type(value) is set:
        return {_convert_key(entry, key) for entry in value}
    return _convert_leaf(value, key)


def _convert_tensor(value: torch.Tensor, key: str) -> torch.Tensor:
    is_plain = type(value) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
    if not is_plain or value.device.type == "meta" or value.is_quantized or value.layout != torch.strided:
        raise _unsupported(value, key)
    value = value.detach().resolve_conj().resolve_neg()
    is_view = value.nbytes < value.untyped_storage().nbytes()
    return value.clone() if is_view else value


def _convert_leaf(value: Any, key: str) -> Any:
    """Converts a value that is not a container to a type that `torch.load` accepts.

    Converts NumPy scalars to Python scalars, NumPy arrays to tensors (string arrays to lists), and instances of
    subclasses of str, int, float and bytes, such as enum members, to the built-in type.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "US":
        return value.tolist()
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
        except TypeError as error:
            raise _unsupported(value, key) from error
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str):
        return str.__str__(value)
    for kind in _SCALARS:
        if isinstance(value, kind) and value != b"" and not (kind is int and value.bit_length() > _MAX_INTEGER_BITS):
            return kind(value)
    raise _unsupported(value, key)


def _convert_key(key: Any, path: str) -> Hashable:
    if isinstance(key, tuple):
        return tuple(_convert_key(part, path) for part in key)
    return None if key is None else _convert_leaf(key, path)


def _unsupported(value: Any, key: str) -> CheckpointError:
    kind = type(value)
    return CheckpointError(
        f"an object of type '{kind.__module__}.{kind.__qualname__}' cannot be saved in a checkpoint",
        key=key,
        found=value,
        notes=[
            "A state may contain dense tensors, numbers, strings, non-empty bytes, lists, tuples and dicts.",
            f"An integer may have {_MAX_INTEGER_BITS} bits. Quantized tensors and the meta device are not supported.",
        ],
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
