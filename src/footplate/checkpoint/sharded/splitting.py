"""Splits a state into shards of its tensors and the rest, in which references replace the tensors."""

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple

import torch

from footplate.distributed.sharding import is_dtensor, local_tensor
from footplate.errors import CheckpointError

_MARK = "footplate.sharded"
_CUT_SECTIONS = re.compile(r"(state_dict|optimizer|ema_state_dict)\.")


class Part(NamedTuple):
    """A shard of a tensor on one rank.

    Attributes:
        tensor: The values.
        offsets: The start of the shard in each dimension of the whole tensor.
        size: The shape of the whole tensor.
    """

    tensor: torch.Tensor
    offsets: tuple[int, ...]
    size: tuple[int, ...]


def split(
    state: Any, cut: Callable[[str, torch.Tensor], Part | None] = lambda name, tensor: None
) -> tuple[Any, dict[str, Part]]:
    """Replaces the sharded tensors of a state by references to their names.

    Args:
        state: Containers and tensors.
        cut: Called with the name and value of each whole tensor. Returns the shard that this rank writes, or None to
            leave the tensor in the state.

    Returns:
        The state with references, and the shards by name.
    """
    splitter = _Splitter(cut)
    return splitter.split(state, ""), splitter.parts


def joined(state: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Replaces the references in a state from `split` by tensors.

    Raises:
        CheckpointError: A tensor is missing.
    """
    if isinstance(state, Mapping):
        if len(state) == 1 and _MARK in state:
            name = state[_MARK]
            if type(name) is not str or name not in tensors:
                raise CheckpointError(f"the tensor '{name}' is missing")
            return tensors[name]
        made = type(state) if isinstance(state, OrderedDict) else dict
        rebuilt = made((key, joined(value, tensors)) for key, value in state.items())
        if hasattr(state, "_metadata"):
            rebuilt._metadata = state._metadata  # type: ignore[attr-defined]
        return rebuilt
    if type(state) in (list, tuple):
        return type(state)(joined(value, tensors) for value in state)
    return state


def cut_evenly(number: int, count: int) -> Callable[[str, torch.Tensor], Part | None]:
    """Returns a `cut` for `split` that takes shard `number` of `count` along the first dimension.

    It splits floating-point tensors in the sections of weights, averaged weights and optimizer state.
    """

    def cut(name: str, tensor: torch.Tensor) -> Part | None:
        if not _CUT_SECTIONS.match(name) or not tensor.dim() or not tensor.is_floating_point() or not tensor.numel():
            return None
        length = -(-tensor.shape[0] // count)
        begin = min(number * length, tensor.shape[0])
        return Part(tensor[begin : begin + length], (begin, *[0] * (tensor.dim() - 1)), tuple(tensor.shape))

    return cut


def cut_replicated(addresses: Set[int], number: int, count: int) -> Callable[[str, torch.Tensor], Part | None]:
    """Returns a `cut` for `split` that splits replicated tensors, which are given by their memory addresses."""
    evenly = cut_evenly(number, count)
    return lambda name, tensor: evenly(name, tensor) if tensor.untyped_storage().data_ptr() in addresses else None


class _Splitter:
    def __init__(self, cut: Callable[[str, torch.Tensor], Part | None]) -> None:
        self.parts: dict[str, Part] = {}
        self._cut = cut
        self._names: dict[Any, str] = {}  # names by memory location, for tensors that share memory

    def split(self, value: Any, name: str) -> Any:
        if isinstance(value, torch.Tensor):
            return self._split_tensor(value, name)
        if isinstance(value, Mapping):
            kept = {key: self.split(each, f"{name}.{key}" if name else str(key)) for key, each in value.items()}
            if not isinstance(value, OrderedDict):
                return kept
            ordered = OrderedDict(kept)
            if hasattr(value, "_metadata"):
                ordered._metadata = value._metadata  # type: ignore[attr-defined]
            return ordered
        if type(value) in (list, tuple):
            return type(value)(self.split(each, f"{name}[{place}]") for place, each in enumerate(value))
        return value

    def _split_tensor(self, tensor: torch.Tensor, name: str) -> Any:
        local = local_tensor(tensor.detach())
        key = (local.data_ptr() or id(tensor), local.storage_offset(), tuple(tensor.shape), tensor.stride())
        if key in self._names:
            return {_MARK: self._names[key]}
        part = _part_of(tensor) if is_dtensor(tensor) else self._cut(name, tensor.detach())
        if part is None:
            return tensor
        if not math.prod(part.size):
            return torch.empty(part.size, dtype=tensor.dtype)
        self._names[key], self.parts[name] = name, part
        return {_MARK: name}


def _part_of(tensor: torch.Tensor) -> Part:
    (chunk,) = tensor.__create_chunk_list__()  # type: ignore[attr-defined]
    return Part(local_tensor(tensor.detach()), tuple(chunk.offsets), tuple(tensor.shape))
