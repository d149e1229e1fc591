"""Converts states to the types that `torch.load(..., weights_only=True)` accepts, and splits them into shards.

Splitting a state produces its tensor shards, and the rest of the state with references to the shards.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from footplate.checkpoint.unpickler import OpaqueObject
from footplate.distributed import is_main_process
from footplate.distributed.sharding import full_tensor, is_dtensor, local_tensor
from footplate.errors import CheckpointError

_T = TypeVar("_T")
_UNCHANGED = frozenset({type(None), bool, int, float, complex, str, torch.dtype, torch.device})
_SCALARS: tuple[Any, ...] = (int, float, complex, bytes)
_MARK = "footplate.sharded"


def to_serializable(value: Any) -> Any:
    """Converts `value` to types that can be read back without executing code.

    Tensors are detached. Views of larger storages are copied, so that the rest of the storage is not written. NumPy
    arrays become tensors (string arrays become lists), and NumPy scalars become Python scalars. Containers are copied
    as in `rebuild`; for example, named tuples become tuples, and deques become lists.

    Raises:
        CheckpointError: The state contains an unsupported type. The message contains the key path.
    """
    try:
        return rebuild(value, _convert)
    except RecursionError as error:
        raise CheckpointError("the state contains a circular reference or is nested too deeply") from error


def walk(value: Any) -> Iterator[Any]:
    """Yields `value` and everything nested in it except dict keys, in order. Yields each container only once."""
    pending = [value]
    seen = set()
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


def rebuild(value: Any, convert: Callable[[str, Any], Any], path: str = "") -> Any:
    """Copies nested containers and converts their keys and entries.

    OrderedDicts stay OrderedDicts, other mappings become dicts, tuples stay tuples, and other sequences become lists.

    Args:
        value: The state.
        convert: Called with a key path and a value for each key and entry, including containers, except None and plain
            numbers, strings, dtypes and devices. If it returns a container unchanged, copies the container recursively.
        path: The key path of the state.
    """
    if type(value) in _UNCHANGED:
        return value
    converted = convert(path, value)
    if converted is not value or not isinstance(value, (list, tuple, deque, Mapping)):
        return converted
    if not isinstance(value, Mapping):
        entries = [  # without a call and a path for each plain number, because lists of numbers can be long
            item if type(item) in _UNCHANGED else rebuild(item, convert, f"{path}[{place}]")
            for place, item in enumerate(value)
        ]
        return tuple(entries) if isinstance(value, tuple) else entries
    copied: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
    for key, item in value.items():
        inner = f"{path}.{key}" if path else str(key)
        copied[rebuild(key, convert, inner)] = rebuild(item, convert, inner)
    metadata = getattr(value, "_metadata", None)  # the layer versions in a module's state dict
    if isinstance(copied, OrderedDict) and isinstance(metadata, Mapping):
        copied._metadata = rebuild(metadata, convert, f"{path}._metadata")  # type: ignore[attr-defined]
    return copied


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Returns all tensors in a state, in order."""
    return [entry for entry in walk(value) if isinstance(entry, torch.Tensor)]


def bytes_in(state: Any) -> int:
    """Returns the total size of all tensors in a state, in bytes. Counts each shared storage once."""
    storages = (tensor.untyped_storage() for tensor in tensors_in(state))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _convert(path: str, value: Any) -> Any:
    """Converts a value that is not a container to a type that `torch.load` accepts.

    Subclasses of str, int, float and bytes, such as enum members, are converted to the built-in type.
    """
    if isinstance(value, (list, tuple, deque, Mapping)):
        return value
    if isinstance(value, torch.Tensor):
        is_plain = type(value) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
        if is_plain and value.device.type != "meta" and not value.is_quantized and value.layout == torch.strided:
            value = value.detach().resolve_conj().resolve_neg()
            return value.clone() if value.nbytes < value.untyped_storage().nbytes() else value
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "US":
            return value.tolist()
        with suppress(TypeError):  # torch does not support all dtypes of numpy
            return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    elif isinstance(value, np.generic):
        return rebuild(value.item(), _convert, path)
    elif type(value) is set:
        return {rebuild(element, _convert, path) for element in value}
    elif isinstance(value, str):
        return str.__str__(value)
    for scalar_type in _SCALARS:
        if isinstance(value, scalar_type):
            return scalar_type(value)
    raise CheckpointError(
        f"an object of type '{type(value).__module__}.{type(value).__qualname__}' cannot be saved in a checkpoint",
        key=path,
        found=value,
        notes=[
            "A state may contain dense tensors, numbers, strings, bytes, lists, tuples and dicts.",
            "Tensor subclasses, quantized tensors and tensors on the meta device are not supported.",
        ],
    )


class TensorShard(NamedTuple):
    """A shard of a tensor on one rank."""

    tensor: torch.Tensor  # the values
    offsets: tuple[int, ...]  # the start of the shard in each dimension of the whole tensor
    size: tuple[int, ...]  # the shape of the whole tensor


def split_state(state: Any) -> tuple[Any, dict[str, TensorShard]]:
    """Splits a state into this rank's shards of its DTensors and the rest, which refers to the shards by name.

    Returns:
        The state with references, and a dict of shards, keyed by name.
    """
    shards: dict[str, TensorShard] = {}
    names: dict[Any, str] = {}  # by memory, which tensors may share

    def replace(name: str, tensor: Any) -> Any:
        if not isinstance(tensor, torch.Tensor) or not is_dtensor(tensor):
            return tensor
        if not tensor.numel():
            return torch.empty(tensor.shape, dtype=tensor.dtype)
        key = _memory_key(tensor)
        if key not in names:
            names[key] = name
            (chunk,) = tensor.__create_chunk_list__()  # type: ignore[attr-defined]
            shards[name] = TensorShard(local_tensor(tensor.detach()), tuple(chunk.offsets), tuple(tensor.shape))
        return {_MARK: names[key]}

    return rebuild(state, replace), shards


def _memory_key(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Returns a key that is equal for two tensors if they share all of their values.

    The key refers to the storage and not to the address, which an empty shard does not have. All ranks therefore agree
    on which tensors are shared.
    """
    local = local_tensor(tensor.detach())
    return local.untyped_storage()._cdata, local.storage_offset(), tuple(tensor.shape), tensor.stride()


def join_state(state: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Replaces the references from `split_state` with the tensors.

    Raises:
        CheckpointError: A tensor is missing.
    """

    def replace(_: str, value: Any) -> Any:
        if not isinstance(value, Mapping) or len(value) != 1 or _MARK not in value:
            return value
        name = value[_MARK]
        if type(name) is not str or name not in tensors:
            raise CheckpointError(f"the tensor '{name}' is missing")
        return tensors[name]

    return rebuild(state, replace)


def gather_full_state(state: _T) -> _T:
    """Gathers sharded tensors on the CPU of rank 0, one at a time. All ranks must call this function.

    On other ranks, the sharded tensors are replaced by empty tensors.
    """
    gathered: dict[Any, torch.Tensor] = {}  # by memory, which tensors may share

    def replace(_: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not is_dtensor(value):
            return value
        key = _memory_key(value)
        if key not in gathered:
            full = full_tensor(value.detach())
            gathered[key] = full.cpu() if is_main_process() else torch.empty(0)
        return gathered[key]

    return rebuild(state, replace)  # type: ignore[no-any-return]
