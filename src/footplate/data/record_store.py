"""Stores records in two arrays, so that workers share them without copies."""

import ctypes
import pickle
import sys
from collections.abc import Iterable, Sequence
from multiprocessing import context
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class RecordStore(Sequence[Any]):
    """Stores pickled records in one array, and their ends in another.

    A forked worker copies each memory page that it writes to, and even reading a Python object changes its reference
    count. Two arrays are only two objects, regardless of the number of records. Each access unpickles the record.

    Args:
        records: Objects that can be pickled.

    Example:
        >>> store = RecordStore([dict(img_path="a.png"), dict(img_path="b.png")])
        >>> store[1], len(store)
        ({'img_path': 'b.png'}, 2)
    """

    def __init__(self, records: Iterable[Any] = ()) -> None:
        content = bytearray()
        ends = [0]
        for record in records:
            content += pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL)
            ends.append(len(content))
        self._content: NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8)
        self._ends: NDArray[np.int64] = np.asarray(ends, dtype=np.int64)
        self._shared: tuple[torch.Tensor, ...] = ()

    @property
    def num_bytes(self) -> int:
        """The size of the records in bytes."""
        return self._content.nbytes + self._ends.nbytes

    def subset(self, indices: Sequence[int]) -> "RecordStore":
        """Returns a store with the records at `indices`, in this order."""
        made = RecordStore()
        lengths = np.diff(self._ends)[indices]
        made._ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        made._content = np.empty(made._ends[-1], dtype=np.uint8)
        for place, index in enumerate(indices):
            begin, end = self._ends[index], self._ends[index + 1]
            made._content[made._ends[place] : made._ends[place + 1]] = self._content[begin:end]
        return made

    def __getitem__(self, index: Any) -> Any:
        place = range(len(self))[index]  # raises IndexError if out of range
        # Safe, because this class pickled the bytes; data from files is never unpickled here.
        return pickle.loads(self._content[self._ends[place] : self._ends[place + 1]].data)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getstate__(self) -> dict[str, Any]:
        if context.get_spawning_popen() is None:
            return {**vars(self), "_shared": ()}
        if not self._shared:  # spawned workers must share the memory, too
            shared = [torch.from_numpy(each.copy()) for each in (self._content, self._ends)]
            self._shared = tuple(each.share_memory_() for each in shared)  # type: ignore[no-untyped-call]
            self._content, self._ends = (each.numpy() for each in self._shared)
        return {"_shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_content" not in state:
            self._content, self._ends = (each.numpy() for each in self._shared)


def give_back_memory() -> None:
    """Returns unused heap memory to the system where possible, because every forked worker would keep a copy of it."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)
