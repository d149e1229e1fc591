"""Limits the memory for reading and copying one checkpoint. The limit depends only on the size of the file.

A process that reads a checkpoint and copies its content uses at most ten times the size of the file, or 240 MB if
that is more. Reading may use 90% of this limit. The remaining memory must hold four copies of the tensors,
because the commands that write weights make up to four copies, for example in wider dtypes for an average or as the
pieces of a safetensors file. It must also hold four copies of the containers, because a state is converted, split and
pickled before it is written.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from footplate.checkpoint.unpickler import OpaqueObject
from footplate.errors import CheckpointError

_TIMES = 10
_LEAST = 240_000_000
_READ_SHARE = 0.9
_TENSOR_COPIES = 4
_CONTAINER_COPIES = 4
_DEEPEST = 100
_ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None)})


def memory_limit(size: int) -> int:
    """Returns the memory limit in bytes for reading and copying a checkpoint of `size` bytes."""
    return max(_TIMES * size, _LEAST)


def check_separate_copies(tensors: Sequence[torch.Tensor]) -> None:
    """Checks that separate copies of tensors that share memory would not be far larger than the shared storages.

    Raises:
        CheckpointError: The copies take too much memory.
    """
    storages = {storage.data_ptr(): storage.nbytes() for storage in (each.untyped_storage() for each in tensors)}
    size = sum(storages.values())
    if sum(each.numel() * each.element_size() for each in tensors) > (memory_limit(size) - size) // _TENSOR_COPIES:
        raise CheckpointError(
            "copies of its weights need far more memory than its size justifies, because many of the weights share "
            "memory"
        )


class Budget:
    """Counts the memory that the content of one checkpoint uses while it is read.

    Args:
        size: The size of the file in bytes.
    """

    def __init__(self, size: int) -> None:
        self._total = memory_limit(size)
        self.limit = int(_READ_SHARE * self._total)
        self.used = 0

    def take(self, count: int) -> None:
        """Adds `count` bytes to the used memory.

        Raises:
            CheckpointError: The limit is exceeded.
        """
        self.used += count
        self.check(0)

    def check(self, count: int) -> None:
        """Checks that a temporary allocation of `count` bytes stays within the limit.

        Raises:
            CheckpointError: The limit would be exceeded.
        """
        if self.used + count > self.limit:
            raise CheckpointError("it needs far more memory than its size justifies")

    def check_copies(self, value: Any) -> list[str]:
        """Checks that deep copies of `value` fit into the remaining budget.

        Tensors that cover the same whole storage count once, because their copies also share memory.

        Returns:
            The names of the opaque objects in `value`, without duplicates.

        Raises:
            CheckpointError: Copies are too large, a container contains itself, or containers are nested too deeply.
        """
        return _CopyMeter(self._total - self.used).check(value)


class _CopyMeter:
    """Measures the memory of deep copies of a value. A container that occurs several times is counted each time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[int, tuple[int, int] | None] = {}  # bytes and height; None while a value is being measured
        self._opaque: dict[int, OpaqueObject] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}

    def check(self, value: Any) -> list[str]:
        names = []
        self._measure(value, 0)
        while self._opaque:  # not part of the copies of a state; they may refer to one another
            _, opaque = self._opaque.popitem()
            names.append(opaque.name)
            self._known[id(opaque)] = (0, 0)
            for part in (opaque.args, opaque.state, opaque.items, opaque.elements):
                self._measure(part, 0)
        return sorted(set(names))

    def _measure(self, value: Any, depth: int) -> tuple[int, int]:
        """Returns the total size in bytes of the copies of a value, and the number of nested levels in the value."""
        if not isinstance(value, (dict, list, tuple)):
            if isinstance(value, OpaqueObject) and id(value) not in self._known:
                self._opaque[id(value)] = value
            return self._size_of_leaf(value), 0
        known = self._known.get(id(value), (0, 0))
        if known is None:
            raise CheckpointError("it contains a circular reference")
        if depth + known[1] > _DEEPEST:
            raise CheckpointError("its containers are nested too deeply")
        if id(value) in self._known:
            return known
        self._known[id(value)] = None
        count, height = _CONTAINER_COPIES * sys.getsizeof(value), 0
        for entry in value.values() if isinstance(value, dict) else value:
            if type(entry) not in _ATOMS:
                inner, below = self._measure(entry, depth + 1)
                count, height = count + inner, max(height, below + 1)
                if count > self._limit:
                    raise CheckpointError("its content would need far more memory than a file of this size should")
        self._known[id(value)] = count, height
        return count, height

    def _size_of_leaf(self, value: Any) -> int:
        if isinstance(value, torch.Tensor):
            size, storage = value.numel() * value.element_size(), value.untyped_storage()
            if size == storage.nbytes():  # copies of expanded tensors and of parts of a storage share no memory
                if storage._cdata in self._storages:
                    return 0
                self._storages[storage._cdata] = storage  # kept alive, so that its address stays unique
            return _TENSOR_COPIES * size
        if isinstance(value, np.ndarray):
            return _TENSOR_COPIES * value.nbytes
        return _CONTAINER_COPIES * sys.getsizeof(value) if isinstance(value, (bytearray, set, frozenset)) else 0
