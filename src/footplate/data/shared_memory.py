"""Data that the main process and its workers share in memory: records, and the batches of workers."""

import ctypes
import io
import pickle
import sys
from collections.abc import Iterable, Sequence
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 64  # bytes; aligns tensors for vector instructions
_SMALL = 4096  # bytes: a tensor up to this size, such as a label, is copied, so that it does not keep the block


class RecordStore(Sequence[Any]):
    """Stores pickled records in one array, and their end offsets in another.

    A forked worker copies each memory page that it writes to, and even reading a Python object changes its reference
    count. Regardless of the number of records, two arrays are only two objects. Each access unpickles the record.

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
        self._shared: tuple[Tensor, ...] = ()

    @property
    def num_bytes(self) -> int:
        """The size of the records in bytes."""
        return self._content.nbytes + self._ends.nbytes

    @property
    def arrays(self) -> tuple["NDArray[np.uint8]", "NDArray[np.int64]"]:
        """The bytes of all records, and the end offset of each record."""
        return self._content, self._ends[1:]

    def subset(self, indices: Sequence[int]) -> "RecordStore":
        """Returns a store with the records at `indices`, in this order."""
        subset = RecordStore()
        lengths = np.diff(self._ends)[indices]
        subset._ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        subset._content = np.empty(subset._ends[-1], dtype=np.uint8)
        for position, index in enumerate(indices):
            record = self._content[self._ends[index] : self._ends[index + 1]]
            subset._content[subset._ends[position] : subset._ends[position + 1]] = record
        return subset

    def __getitem__(self, index: Any) -> Any:
        index = range(len(self))[index]  # raises IndexError if out of range
        # Safe, because this class pickled the bytes; data from files is never unpickled here.
        return pickle.loads(self._content[self._ends[index] : self._ends[index + 1]].data)

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


def trim_heap() -> None:
    """Returns unused heap memory to the system where possible. Every forked worker would otherwise keep a copy."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)


class SentBatch:
    """A batch on its way from a worker to the main process, which receives the batch itself.

    Its dense tensors and arrays are in one block of shared memory. Torch would send each of them separately, with
    several messages between the processes, which takes the main process a few hundred microseconds per tensor.

    Args:
        batch: Any object that can be pickled.

    Raises:
        Exception: Any exception that a class raises if its objects cannot be pickled.
    """

    def __init__(self, batch: Any) -> None:
        buffers: list[memoryview] = []

        def stays_in_pickle(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes > _SMALL:
                buffers.append(raw)
            return raw.nbytes <= _SMALL

        content = io.BytesIO()
        _Pickler(content, pickle.HIGHEST_PROTOCOL, True, stays_in_pickle).dump(batch)
        self._content, self._extents = content.getvalue(), list[tuple[int, int]]()
        self._memory: Tensor | None = None
        if not buffers:
            return
        size = 0
        for buffer in buffers:
            self._extents.append((size, buffer.nbytes))
            size += -(-buffer.nbytes // _ALIGNMENT) * _ALIGNMENT
        # On the CPU, even if that is not the default device.
        self._memory = torch.empty(size, dtype=torch.uint8, device="cpu").share_memory_()  # type: ignore[no-untyped-call]
        for view, buffer in zip(_views(self._memory, self._extents), buffers, strict=True):
            view[:] = buffer

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (self._content, self._extents, self._memory)


def _receive(content: bytes, extents: Sequence[tuple[int, int]], memory: Tensor | None) -> Any:
    return pickle.loads(content, buffers=() if memory is None else _views(memory, extents))


class _Pickler(ForkingPickler):
    """Pickles like multiprocessing queues, but stores plain dense CPU tensors out of band, like arrays."""

    def reducer_override(self, value: Any) -> Any:
        if (
            type(value) is not Tensor
            or value.layout is not torch.strided
            or value.is_nested
            or value.device.type != "cpu"
            or value.is_quantized
            or value.requires_grad
        ):
            return NotImplemented
        value = value.resolve_conj().resolve_neg()
        extent = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
        if value.numel() and extent != value.numel():  # its elements have gaps between them, or overlap
            value = value.contiguous()
        flat = value.as_strided((value.numel(),), (1,)).view(torch.uint8)
        return _rebuild_tensor, (pickle.PickleBuffer(flat.numpy()), value.dtype, value.shape, value.stride())


def _rebuild_tensor(
    buffer: memoryview | bytearray, dtype: torch.dtype, shape: Sequence[int], stride: Sequence[int]
) -> Tensor:
    if not len(buffer):
        return torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype, device="cpu")
    return torch.frombuffer(buffer, dtype=dtype).as_strided(tuple(shape), tuple(stride))


def _views(memory: Tensor, extents: Sequence[tuple[int, int]]) -> list[memoryview]:
    content: Any = memory.numpy()
    whole = memoryview(content)
    return [whole[first : first + size] for first, size in extents]
