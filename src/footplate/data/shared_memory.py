"""Shared memory for dataset records and for batches that workers send to the main process."""

import io
import pickle
import sys
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footplate.torch_internals import allocate_shared

_ALIGNMENT = 64  # bytes; aligns tensors for vector instructions
_SMALL = 4096  # bytes; smaller tensors, such as labels, are copied, so that they do not keep the block alive
# Bytes; a pipe is faster than shared memory for smaller batches, in particular if a batch fits into the pipe.
_LARGE = 900_000 if sys.platform == "linux" else 1 << 19


class RecordStore(Sequence[Any]):
    """Stores pickled records in one array, and their end offsets in another.

    A forked worker copies every memory page that it writes to, and even reading a Python object updates a reference
    count. Storing two arrays instead of many objects avoids these copies. Each access unpickles a record.

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
        # Tensors, because torch moves them to shared memory when they are sent to a spawned worker.
        self._content = torch.from_numpy(np.frombuffer(content, dtype=np.uint8))
        self._ends = torch.from_numpy(np.asarray(ends))

    @property
    def arrays(self) -> tuple["NDArray[np.uint8]", "NDArray[np.int64]"]:
        """The bytes of all records, and the end offset of each record."""
        return self._content.numpy(), self._ends.numpy()[1:]

    def subset(self, indices: Sequence[int]) -> "RecordStore":
        """Returns a store with the records at `indices`, in the given order."""
        parts = [self._content[self._ends[index] : self._ends[index + 1]] for index in indices]
        subset = RecordStore()
        subset._content = torch.cat([subset._content, *parts])
        subset._ends = torch.tensor([0, *map(len, parts)]).cumsum(0)
        return subset

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self))[index]  # raises IndexError if out of range
        # Safe: this class has pickled the bytes, and never unpickles data from files.
        return pickle.loads(self._content.numpy()[self._ends[index] : self._ends[index + 1]].data)

    def __len__(self) -> int:
        return len(self._ends) - 1


class SentBatch:
    """Wraps a batch that a worker sends to the main process. Unpickling returns the batch itself.

    All arrays and dense tensors in the batch share one block of memory. Torch would send each tensor separately, which
    would cost the main process a few hundred microseconds per tensor.

    Args:
        batch: Any object that can be pickled.

    Raises:
        Exception: Any exception that pickling an object may raise.
    """

    def __init__(self, batch: Any) -> None:
        buffers: list[memoryview] = []

        def stays_in_pickle(buffer: pickle.PickleBuffer) -> bool:
            content = buffer.raw()
            if content.nbytes > _SMALL:
                buffers.append(content)
            return content.nbytes <= _SMALL

        pickled = io.BytesIO()
        _Pickler(pickled, pickle.HIGHEST_PROTOCOL, True, stays_in_pickle).dump(batch)
        self._pickled = pickled.getvalue()
        self._sizes = [buffer.nbytes for buffer in buffers]
        size = sum(map(_aligned, self._sizes))
        self._memory: Any = allocate_shared(size) if size >= _LARGE else bytearray(size)
        for part, buffer in zip(_split(self._memory, self._sizes), buffers, strict=True):
            part[:] = buffer

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (self._pickled, self._sizes, self._memory)


class _Pickler(ForkingPickler):
    """A multiprocessing pickler that pickles plain tensors as arrays, whose data can be sent out of band."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Tensor:
            return NotImplemented
        try:
            array = value.resolve_conj().resolve_neg().numpy()
        except (TypeError, RuntimeError):  # for example, sparse tensors and tensors that require gradients
            return NotImplemented
        # Torch sends large tensors that are already in shared memory, where `default_collate` creates them in workers.
        is_sent_by_torch = array.nbytes >= _LARGE and value.is_shared()  # type: ignore[no-untyped-call]
        # Pickle would first copy an array that is not contiguous.
        if is_sent_by_torch or not array.flags.forc:
            return NotImplemented
        return torch.from_numpy, (array,)


def _receive(pickled: bytes, sizes: Sequence[int], memory: Any) -> Any:
    return pickle.loads(pickled, buffers=_split(memory, sizes))


def _split(memory: Any, sizes: Sequence[int]) -> Iterator[memoryview]:
    block: Any = memory.numpy() if isinstance(memory, Tensor) else memory
    start = 0
    for size in sizes:
        yield memoryview(block)[start : start + size]
        start += _aligned(size)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
