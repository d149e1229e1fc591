"""Data that the main process and its workers share in memory: records, a counter, and the batches of workers."""

import ctypes
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import RawArray
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST_INDICES = 1 << 20
_ALIGNMENT = 64  # bytes; aligns tensors for vector instructions
_HEADER = _ALIGNMENT  # bytes of a block before the data; the first is the state of the block
_NEW, _IN_USE, _FREE = range(3)  # states: not sent yet; used by a batch; sent earlier and free again


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


class SharedIndices:
    """A set of sample indices in memory that the main process shares with its forked or spawned workers.

    Each index has its own byte, so that no locks are needed. Indices that differ by a multiple of 2**20 count as one.
    A copy of a set starts with its indices and is independent of it.

    Args:
        flags: The memory of another set, which is then shared.
    """

    def __init__(self, flags: Any = None) -> None:
        self._flags: Any = RawArray("B", _MOST_INDICES) if flags is None else flags

    def __len__(self) -> int:
        return int(np.count_nonzero(np.frombuffer(self._flags, np.uint8)))

    def add(self, index: int) -> int:
        """Adds an index and returns the number of indices that all processes have added."""
        self._flags[index % _MOST_INDICES] = 1
        return len(self)

    def __reduce__(self) -> tuple[Any, ...]:
        is_copied = context.get_spawning_popen() is None
        return (_copy_indices, (bytes(self._flags),)) if is_copied else (SharedIndices, (self._flags,))


def _copy_indices(content: bytes) -> SharedIndices:
    return SharedIndices(RawArray("B", content))


class Block(NamedTuple):
    """A block of shared memory for one batch."""

    memory: Tensor  # A uint8 tensor `(64 + N,)`: a header with the state, then N bytes of data
    name: object = None  # the key under which the main process stores the block; None if the block is used only once
    is_sent: bool = False  # whether the main process already has the block


def allocate_block(size: int) -> Block:
    """Allocates a block of `size` bytes that is used for only one batch."""
    memory = torch.empty(_HEADER + size, dtype=torch.uint8, device="cpu")  # even if the default device is not the CPU
    memory[0] = _NEW
    return Block(memory.share_memory_())  # type: ignore[no-untyped-call]


class BlockPool:
    """Blocks of shared memory that a worker reuses, so that each is sent only once and its pages stay mapped.

    The main process marks a block as free when the last tensor or array of its batch is deleted. If the main process
    keeps more than `most` batches, additional blocks are used only once.
    """

    def __init__(self, worker: int, most: int) -> None:
        self._worker, self._most = worker, most
        self._memories: list[Tensor] = []

    def allocate(self, size: int) -> Block:
        """Returns a block of at least `size` bytes, and marks it as in use."""
        states = [int(memory[0]) for memory in self._memories]
        free = [number for number, state in enumerate(states) if state != _IN_USE]
        number = next((each for each in free if len(self._memories[each]) >= _HEADER + size), None)
        if number is None:
            new = allocate_block(size + size // 4)  # some headroom for batches of varying size
            if not free and len(self._memories) == self._most:
                return new
            number = free[0] if free else len(self._memories)
            self._memories[number : number + 1] = [new.memory]
            states[number : number + 1] = [_NEW]
        block = Block(self._memories[number], (self._worker, number), states[number] == _FREE)
        block.memory[0] = _IN_USE
        return block


class PackedBatch:
    """A pickled batch whose dense tensors and arrays are stored in one block of shared memory.

    Torch sends each tensor separately, with several messages between the processes. This takes the main process a few
    hundred microseconds for each image and label map of a batch.

    Args:
        content: The pickled batch without the data of tensors and arrays.
        extents: The offset and size in bytes of each tensor or array in the memory.
        name: The key under which the main process stores the memory; see `Block`.
        memory: The memory of the block. None if the main process already has the block or the batch needs none.
    """

    def __init__(
        self, content: bytes, extents: Sequence[tuple[int, int]], name: object = None, memory: Tensor | None = None
    ) -> None:
        self._content, self._extents, self._name, self._memory = content, extents, name, memory

    @classmethod
    def pack(cls, batch: Any, allocate: Callable[[int], Block] = allocate_block, *, small: int = 0) -> "PackedBatch":
        """Packs a batch.

        Args:
            batch: Any object that can be pickled.
            allocate: A function that returns a block for a number of bytes.
            small: Tensors and arrays of at most this size in bytes stay in the pickle, so that a reference to a label
                does not keep the memory of the images alive.

        Raises:
            Exception: Any exception that a class raises if its objects cannot be pickled.
        """
        buffers: list[memoryview] = []

        def stays_in_pickle(buffer: pickle.PickleBuffer) -> bool:
            raw = buffer.raw()
            if raw.nbytes > small:
                buffers.append(raw)
            return raw.nbytes <= small

        content = io.BytesIO()
        _Pickler(content, pickle.HIGHEST_PROTOCOL, True, stays_in_pickle).dump(batch)
        if not buffers:
            return cls(content.getvalue(), [])
        extents, end = [], _HEADER
        for buffer in buffers:
            extents.append((end, buffer.nbytes))
            end += -(-buffer.nbytes // _ALIGNMENT) * _ALIGNMENT
        block = allocate(end - _HEADER)
        for view, buffer in zip(_views(block.memory.numpy(), extents), buffers, strict=True):
            view[:] = buffer
        return cls(content.getvalue(), extents, block.name, None if block.is_sent else block.memory)

    def unpack(self, memories: dict[object, Tensor]) -> Any:
        """Returns the batch. Its tensors and arrays are views of its memory block, which is added to `memories`."""
        if not self._extents:
            return pickle.loads(self._content)
        memory = memories[self._name] if self._memory is None else self._memory
        array = memory.numpy()
        if self._name is not None:
            memories[self._name] = memory
            finalize(array, _release, memory.numpy(), os.getpid()).atexit = False
        return pickle.loads(self._content, buffers=_views(array, self._extents))

    def pin_memory(self) -> "PackedBatch":
        """Returns the batch in pinned memory. A loader with `pin_memory` calls this method."""
        if self._memory is None:
            return self
        return _PinnedBatch(self._content, self._extents, memory=self._memory.pin_memory())


class _PinnedBatch(PackedBatch):
    """A packed batch in pinned memory."""

    def unpack(self, memories: dict[object, Tensor]) -> Any:
        assert self._memory is not None
        buffers = []
        for first, size in self._extents:
            tensor = self._memory[first : first + size]
            buffer = tensor.numpy().view(_PinnedBytes)
            buffer.tensor = tensor
            buffers.append(buffer)
        return pickle.loads(self._content, buffers=buffers)


class _PinnedBytes(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes of pinned memory with a reference to their tensor.

    Torch returns pinned memory to its cache when all copies from it are complete, and tracks copies by their source
    storage. A tensor created from the bytes alone would have a different storage.
    """

    tensor: Tensor


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
    if isinstance(buffer, _PinnedBytes):
        flat = buffer.tensor.view(dtype)
        return flat.as_strided(tuple(shape), tuple(stride), flat.storage_offset())
    return torch.frombuffer(buffer, dtype=dtype).as_strided(tuple(shape), tuple(stride))


def _release(memory: Any, process: int) -> None:
    """Marks a block as free without calling torch, because a tensor may be deleted while torch traces operations."""
    if os.getpid() == process:  # not in a process that was forked while the batch was in use
        memory[0] = _FREE


def _views(memory: Any, extents: Sequence[tuple[int, int]]) -> list[memoryview]:
    whole = memoryview(memory)
    return [whole[first : first + size] for first, size in extents]


def find_unpicklable(batch: Any, indices: Sequence[Any]) -> Sequence[Any]:
    """Returns the index of the sample that cannot be pickled, or all indices of the batch if the sample is unknown."""
    values = batch.values() if isinstance(batch, Mapping) else [batch]
    columns = [value for value in values if isinstance(value, (list, tuple)) and len(value) == len(indices)]
    for position, index in enumerate(indices):
        try:
            pickle.dumps([column[position] for column in columns])
        except Exception:  # classes may raise any exception
            return [index]
    return indices
