"""Limits the memory for one checkpoint; nothing in the file can raise the limit.

A process that reads a checkpoint and copies its content uses at most ten times the size of the file, or 240 MB if
that is more. Reading may use 90% of it. The rest must hold four copies of the content, because the commands that
write weights make up to four copies, for example wider dtypes for an average or the pieces of a safetensors file.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from footplate.checkpoint.inert.machine import Inert
from footplate.errors import CheckpointError

_TIMES = 10
_LEAST = 240_000_000
_READ_SHARE = 0.9
_COPIES = 4
_DEEPEST = 100


def most_memory(size: int) -> int:
    """Returns the memory limit in bytes for reading and copying a checkpoint of `size` bytes."""
    return max(_TIMES * size, _LEAST)


def check_separate_copies(tensors: Sequence[torch.Tensor]) -> None:
    """Checks the memory for copies of tensors in which no memory is shared, against the memory of their storages.

    Raises:
        CheckpointError: They take too much.
    """
    storages = {storage.data_ptr(): storage.nbytes() for storage in (each.untyped_storage() for each in tensors)}
    size = sum(storages.values())
    if sum(each.numel() * each.element_size() for each in tensors) > (most_memory(size) - size) // _COPIES:
        raise CheckpointError(
            "copies of its weights take far more memory than it is long, because many of them share their memory"
        )


class Budget:
    """Counts the memory that the content of one checkpoint uses while it is read.

    Args:
        size: The size of the file in bytes.
    """

    def __init__(self, size: int) -> None:
        self._in_all = most_memory(size)
        self.most = int(_READ_SHARE * self._in_all)
        self.spent = 0

    def take(self, count: int) -> None:
        """Counts `count` more bytes.

        Raises:
            CheckpointError: It is too much.
        """
        self.spent += count
        self.check(0)

    def check(self, count: int) -> None:
        """Checks whether `count` more bytes are left, for a temporary allocation.

        Raises:
            CheckpointError: They are not.
        """
        if self.spent + count > self.most:
            raise CheckpointError("it asks for far more memory than it is long")

    def check_copies(self, value: Any) -> None:
        """Checks the size of a deep copy of `value`; tensors that fill the same storage share their memory in it.

        Raises:
            CheckpointError: A copy is too large, a container holds itself, or containers are nested too deeply.
        """
        _Unfolding((self._in_all - self.spent) // _COPIES).check(value)


class _Unfolding:
    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[int, tuple[int, int] | None] = {}  # bytes and height; None while a value is being measured
        self._inert: dict[int, Inert] = {}
        self._storages: dict[int, torch.UntypedStorage] = {}

    def check(self, value: Any) -> None:
        self._measure(value, 0)
        while self._inert:  # copies of a state do not include these, and they may refer to one another
            _, inert = self._inert.popitem()
            self._known[id(inert)] = (0, 0)
            for part in (inert.args, inert.state, inert.items, inert.elements):
                self._measure(part, 0)

    def _measure(self, value: Any, depth: int) -> tuple[int, int]:
        entries = _entries(value)
        if entries is None:
            if isinstance(value, Inert) and id(value) not in self._known:
                self._inert[id(value)] = value
            return self._bytes_of(value), 0
        if id(value) in self._known:
            known = self._known[id(value)]
            if known is None:
                raise CheckpointError("it holds a container that contains itself")
            self._check_depth(depth + known[1])
            return known
        self._check_depth(depth)
        self._known[id(value)] = None
        count, height = sys.getsizeof(value), 0
        for entry in entries:
            if type(entry) not in _ATOMS:
                inner, below = self._measure(entry, depth + 1)
                count, height = count + inner, max(height, below + 1)
                if count > self._most:
                    raise CheckpointError("a copy of its content takes far more memory than it is long")
        self._known[id(value)] = count, height
        return count, height

    def _bytes_of(self, value: Any) -> int:
        if isinstance(value, torch.Tensor):
            return self._bytes_of_tensor(value)
        if isinstance(value, np.ndarray):
            return value.nbytes
        return sys.getsizeof(value) if isinstance(value, (bytearray, set, frozenset)) else 0

    def _bytes_of_tensor(self, tensor: torch.Tensor) -> int:
        """Returns the size of a tensor; 0 if it is a shared one that was counted before."""
        count, storage = tensor.numel() * tensor.element_size(), tensor.untyped_storage()
        if count != storage.nbytes():  # copies of an expanded tensor, or of a part of a storage, share nothing
            return count
        is_known = storage._cdata in self._storages
        self._storages[storage._cdata] = storage  # a storage that lives keeps its address
        return 0 if is_known else count

    def _check_depth(self, depth: int) -> None:
        if depth > _DEEPEST:
            raise CheckpointError("it holds containers that are nested too deeply")


_ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None)})


def _entries(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else None
