"""Sends batches from a worker to the main process, with all tensors of a batch in one block of shared memory."""

import io
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes; aligns tensors for vector instructions
_HEADER = _ALIGNMENT  # bytes before the data, of which the first is the mark
_UNKNOWN, _USED, _KNOWN = range(3)  # marks: not yet sent; used by a batch; sent before and free again


class Piece(NamedTuple):
    """A block of shared memory for one batch.

    Attributes:
        memory: A header with the mark, then N bytes of data; `(64 + N,), uint8`.
        name: The key under which the main process stores the block; None if it is used only once.
        known: Whether the main process already has the block.
    """

    memory: Tensor
    name: object = None
    known: bool = False


class SharedPieces:
    """Blocks of shared memory that a worker reuses, so that each is sent only once and its pages stay mapped.

    The first byte of a block is its mark. The main process sets it to free when the last tensor or array of the batch
    is deleted.

    Args:
        worker: The index of the worker.
        most: The maximum number of reusable blocks. If the consumer keeps more batches, further blocks are used once.
    """

    def __init__(self, worker: int, most: int) -> None:
        self._worker, self._most = worker, most
        self._pieces: list[Tensor] = []

    def take(self, size: int) -> Piece:
        """Returns a block for `size` bytes, marked as used."""
        marks = [int(piece[0]) for piece in self._pieces]
        free = [number for number, mark in enumerate(marks) if mark != _USED]
        number = next((each for each in free if len(self._pieces[each]) >= _HEADER + size), None)
        if number is None:
            memory = _shared(size + size // 4)  # some headroom for batches of varying size
            if not free and len(self._pieces) == self._most:
                return Piece(memory)
            number = free[0] if free else len(self._pieces)
            self._pieces[number : number + 1] = [memory]
            marks[number : number + 1] = [_UNKNOWN]
        piece = Piece(self._pieces[number], (self._worker, number), marks[number] == _KNOWN)
        piece.memory[0] = _USED
        return piece


def take_once(size: int) -> Piece:
    """Returns a block for `size` bytes that is not reused."""
    return Piece(_shared(size))


class PackedBatch:
    """A pickled batch whose dense tensors and arrays are in one block of shared memory.

    Torch sends each tensor separately, with several messages between the processes. This takes the main process some
    hundred microseconds for each image and label map of a batch.

    Args:
        content: The pickled batch without the data of tensors and arrays.
        places: The offset and size in bytes of each tensor or array in the memory.
        name: The key under which the main process stores the memory; see `Piece`.
        memory: `(64 + N,), uint8`; None if the main process already has it or the batch needs none.
    """

    def __init__(
        self,
        content: bytes,
        places: Sequence[tuple[int, int]],
        name: object,
        memory: Tensor | None,
    ) -> None:
        self._content, self._places, self._name, self._memory = content, places, name, memory

    @classmethod
    def of(cls, batch: Any, take: Callable[[int], Piece] = take_once, *, small: int = 0) -> "PackedBatch":
        """Packs a batch.

        Args:
            batch: Any object that can be pickled.
            take: Returns memory for a number of bytes.
            small: The maximum size in bytes of tensors and arrays that stay in the pickle, so that keeping a label
                does not keep the memory of the images.

        Raises:
            Exception: Whatever a class raises that cannot be pickled.
        """
        raw: list[memoryview] = []

        def stays(numbers: pickle.PickleBuffer) -> bool:
            found = numbers.raw()
            if found.nbytes > small:
                raw.append(found)
            return found.nbytes <= small

        content = io.BytesIO()
        _Pickler(content, pickle.HIGHEST_PROTOCOL, True, stays).dump(batch)
        places, size = [], _HEADER
        for each in raw:
            places.append((size, each.nbytes))
            size += -(-each.nbytes // _ALIGNMENT) * _ALIGNMENT
        if not raw:
            return cls(content.getvalue(), [], None, None)
        piece = take(size - _HEADER)
        for part, each in zip(_parts(piece.memory.numpy(), places), raw, strict=True):
            part[:] = each
        return cls(content.getvalue(), places, piece.name, None if piece.known else piece.memory)

    def unpack(self, known: dict[object, Tensor]) -> Any:
        """Returns the batch; its tensors and arrays are views of the memory.

        Args:
            known: The memory blocks that workers have sent in this pass, by name; new blocks are added.
        """
        if not self._places:
            return pickle.loads(self._content)
        memory = known[self._name] if self._memory is None else self._memory
        bytes_of_it = memory.numpy()
        if self._name is not None:
            known[self._name] = memory
            finalize(bytes_of_it, _give_back, memory.numpy(), os.getpid()).atexit = False
        return pickle.loads(self._content, buffers=_parts(bytes_of_it, self._places))

    def pin_memory(self) -> "PackedBatch":
        """Returns the batch in pinned memory; called by a loader with `pin_memory`."""
        if self._memory is None:
            return self
        return _PinnedBatch(self._content, self._places, None, self._memory.pin_memory())


class _PinnedBatch(PackedBatch):
    """A packed batch in pinned memory."""

    def unpack(self, known: dict[object, Tensor]) -> Any:
        assert self._memory is not None
        return pickle.loads(self._content, buffers=[_PinnedPart.of(self._memory, *each) for each in self._places])


class _Pickler(ForkingPickler):
    """Pickles like multiprocessing queues, but stores the data of dense tensors out of band, as for arrays."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Tensor or not _is_plain(value):
            return NotImplemented
        value = value.resolve_conj().resolve_neg()
        dense = value if _span(value) == value.numel() else value.contiguous()
        flat = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
        return _tensor, (pickle.PickleBuffer(flat.numpy()), dense.dtype, dense.shape, dense.stride())


class _PinnedPart(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes of pinned memory with a reference to their tensor.

    Torch returns pinned memory to its cache when all copies from it are complete, and tracks copies by their source
    storage. A tensor created from the bytes alone would have a different storage.
    """

    tensor: Tensor

    @classmethod
    def of(cls, memory: Tensor, first: int, size: int) -> "_PinnedPart":
        tensor = memory[first : first + size]
        found = tensor.numpy().view(cls)
        found.tensor = tensor
        return found


def blamed(batch: Any, indices: Sequence[Any]) -> Sequence[Any]:
    """Returns the index of the sample that cannot be pickled, or all indices if it cannot be determined.

    Args:
        batch: A batch that could not be packed.
        indices: The indices of its samples.
    """
    found = batch.values() if isinstance(batch, Mapping) else [batch]
    parts = [part for part in found if isinstance(part, (list, tuple)) and len(part) == len(indices)]
    for place, index in enumerate(indices):
        if any(not _can_be_pickled(part[place]) for part in parts):
            return [index]
    return indices


def _is_plain(value: Tensor) -> bool:
    """Checks whether a tensor is a plain dense CPU tensor that does not require gradients."""
    dense = value.layout is torch.strided and not value.is_nested and value.device.type == "cpu"
    return dense and not value.is_quantized and not value.requires_grad


def _span(value: Tensor) -> int:
    """Returns the extent of a tensor in memory, in elements; it equals `numel()` if the tensor has no gaps."""
    if not value.numel():
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))


def _tensor(numbers: memoryview | bytearray, dtype: torch.dtype, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    if not len(numbers):
        return torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype, device="cpu")
    if isinstance(numbers, _PinnedPart):
        flat = numbers.tensor.view(dtype)
        return flat.as_strided(tuple(shape), tuple(stride), flat.storage_offset())
    return torch.frombuffer(numbers, dtype=dtype).as_strided(tuple(shape), tuple(stride))


def _shared(size: int) -> Tensor:
    memory = torch.empty(_HEADER + size, dtype=torch.uint8, device="cpu")  # also if the default device is not the CPU
    memory[0] = _UNKNOWN
    return memory.share_memory_()  # type: ignore[no-any-return, no-untyped-call]


def _give_back(memory: Any, process: int) -> None:
    """Marks the memory as free, without torch: a tensor may be deleted while torch traces or fakes operations."""
    if os.getpid() == process:  # not in a process that was forked while the batch was in use
        memory[0] = _KNOWN


def _parts(memory: Any, places: Sequence[tuple[int, int]]) -> list[memoryview]:
    whole = memoryview(memory)
    return [whole[first : first + size] for first, size in places]


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # classes may raise any exception
        return False
    return True
