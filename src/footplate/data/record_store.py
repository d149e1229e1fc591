"""Many records in two arrays, so that workers share them without copying."""

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
    """Records as bytes in one array, and where each ends in another.

    A forked worker copies what it touches, and touching a Python object means counting its references. Two
    arrays are two objects, whatever the number of records; each record is made anew when it is asked for.

    Args:
        records: Anything that can be pickled.

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
        """The memory that the records take."""
        return self._content.nbytes + self._ends.nbytes

    def subset(self, indices: Sequence[int]) -> "RecordStore":
        """Returns a store of some records, in the order of `indices`."""
        made = RecordStore()
        lengths = np.diff(self._ends)[indices]
        made._ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        made._content = np.empty(made._ends[-1], dtype=np.uint8)
        for place, index in enumerate(indices):
            begin, end = self._ends[index], self._ends[index + 1]
            made._content[made._ends[place] : made._ends[place + 1]] = self._content[begin:end]
        return made

    def __getitem__(self, index: Any) -> Any:
        place = range(len(self))[index]  # refuses what is out of range
        # The bytes are what this class wrote; nothing from a file is unpickled here.
        return pickle.loads(self._content[self._ends[place] : self._ends[place + 1]].data)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getstate__(self) -> dict[str, Any]:
        if context.get_spawning_popen() is None:
            return {**vars(self), "_shared": ()}
        if not self._shared:  # a worker that is spawned rather than forked is to see the same bytes, not a copy
            shared = [torch.from_numpy(each.copy()) for each in (self._content, self._ends)]
            self._shared = tuple(each.share_memory_() for each in shared)  # type: ignore[no-untyped-call]
            self._content, self._ends = (each.numpy() for each in self._shared)
        return {"_shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "_content" not in state:
            self._content, self._ends = (each.numpy() for each in self._shared)


def give_back_memory() -> None:
    """Has the allocator return what it holds and nobody uses, where it can: every worker would keep a share of it."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others do without
        if trim is not None:
            trim(0)
