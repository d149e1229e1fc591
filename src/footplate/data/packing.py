"""Batches on their way from a worker to the main process: their numbers in one piece of shared memory."""

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

_ALIGNMENT = 64  # bytes: where a tensor begins, so that vector instructions may read it
_HEADER = _ALIGNMENT  # bytes in front, of which the first is a mark
_UNKNOWN, _USED, _KNOWN = range(3)  # marks: new to the main process; a batch of its lies in it; it is done with it


class Piece(NamedTuple):
    """Shared memory for one batch.

    Attributes:
        memory: (64 + N,) uint8: its mark, then room for N bytes.
        name: What the main process knows it by; None: it is used once.
        known: Whether the main process has it already.
    """

    memory: Tensor
    name: object = None
    known: bool = False


class SharedPieces:
    """Pieces of memory that a worker fills in turns, so that each is handed over once and its pages stay mapped.

    A piece tells by its first byte whether the main process is done with it. It writes that itself, when the last
    tensor or array of the batch is gone.

    Args:
        worker: The number of the worker.
        most: How many there may be; further ones are used once, for somebody who keeps batches.
    """

    def __init__(self, worker: int, most: int) -> None:
        self._worker, self._most = worker, most
        self._pieces: list[Tensor] = []

    def take(self, size: int) -> Piece:
        """Returns a piece with room for `size` bytes, marked as used."""
        marks = [int(piece[0]) for piece in self._pieces]
        free = [number for number, mark in enumerate(marks) if mark != _USED]
        number = next((each for each in free if len(self._pieces[each]) >= _HEADER + size), None)
        if number is None:
            memory = _shared(size + size // 4)  # a batch of varying size is seldom larger then
            if not free and len(self._pieces) == self._most:
                return Piece(memory)
            number = free[0] if free else len(self._pieces)
            self._pieces[number : number + 1] = [memory]
            marks[number : number + 1] = [_UNKNOWN]
        piece = Piece(self._pieces[number], (self._worker, number), marks[number] == _KNOWN)
        piece.memory[0] = _USED
        return piece


def take_once(size: int) -> Piece:
    """Returns a piece with room for `size` bytes that nobody fills again."""
    return Piece(_shared(size))


class PackedBatch:
    """A batch as bytes that may be sent, its dense tensors and arrays in one piece of shared memory.

    Torch hands each tensor over by itself, which takes several messages between the two processes: some hundred
    microseconds of the main process, for each of the pictures and label maps of a batch.

    Args:
        content: The batch, pickled, without its numbers.
        places: Where each tensor or array begins in the memory, and its bytes.
        name: What the main process knows the memory by; see `Piece`.
        memory: (64 + N,) uint8; None where the main process has it, or nothing lies there.
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
            batch: Anything that can be pickled.
            take: Gives memory for so many bytes.
            small: Up to so many bytes a tensor or array goes with the pickle: who keeps a label does not keep the
                pictures beside it.

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
        """Returns the batch, whose tensors and arrays are views of the memory.

        Args:
            known: The memory that workers of this pass have sent, by its name; what comes first is added.
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
        """Returns the same in memory that an accelerator reads by itself; a loader with `pin_memory` calls it."""
        if self._memory is None:
            return self
        return _PinnedBatch(self._content, self._places, None, self._memory.pin_memory())


class _PinnedBatch(PackedBatch):
    """A batch that is unpacked into parts of pinned memory."""

    def unpack(self, known: dict[object, Tensor]) -> Any:
        assert self._memory is not None
        return pickle.loads(self._content, buffers=[_PinnedPart.of(self._memory, *each) for each in self._places])


class _Pickler(ForkingPickler):
    """Pickles as queues do, but dense tensors as arrays are: their numbers apart, for the receiver to place."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Tensor or not _is_plain(value):
            return NotImplemented
        value = value.resolve_conj().resolve_neg()
        dense = value if _span(value) == value.numel() else value.contiguous()
        flat = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
        return _tensor, (pickle.PickleBuffer(flat.numpy()), dense.dtype, dense.shape, dense.stride())


class _PinnedPart(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes of pinned memory that know which tensor they are a part of.

    Torch gives pinned memory back to its cache when what was copied out of it has arrived, and knows copies by the
    storage that they were made from: a tensor made from the bytes alone would have another.
    """

    tensor: Tensor

    @classmethod
    def of(cls, memory: Tensor, first: int, size: int) -> "_PinnedPart":
        tensor = memory[first : first + size]
        found = tensor.numpy().view(cls)
        found.tensor = tensor
        return found


def blamed(batch: Any, indices: Sequence[Any]) -> Sequence[Any]:
    """Returns the sample that cannot be pickled, or all of a batch whose parts do not tell.

    Args:
        batch: One that could not be packed.
        indices: Of its samples.
    """
    found = batch.values() if isinstance(batch, Mapping) else [batch]
    parts = [part for part in found if isinstance(part, (list, tuple)) and len(part) == len(indices)]
    for place, index in enumerate(indices):
        if any(not _can_be_pickled(part[place]) for part in parts):
            return [index]
    return indices


def _is_plain(value: Tensor) -> bool:
    """Checks whether a tensor is nothing but its numbers, in the memory of the processor."""
    dense = value.layout is torch.strided and not value.is_nested and value.device.type == "cpu"
    return dense and not value.is_quantized and not value.requires_grad


def _span(value: Tensor) -> int:
    """Returns over how many places in memory a tensor reaches; as many as it has numbers where it leaves no gap."""
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
    memory = torch.empty(_HEADER + size, dtype=torch.uint8, device="cpu")  # whatever the default device is
    memory[0] = _UNKNOWN
    return memory.share_memory_()  # type: ignore[no-any-return, no-untyped-call]


def _give_back(memory: Any, process: int) -> None:
    """Marks the memory, past torch: a tensor may be gone while torch traces or fakes what is done to tensors."""
    if os.getpid() == process:  # not in a worker that was forked while the batch was in use
        memory[0] = _KNOWN


def _parts(memory: Any, places: Sequence[tuple[int, int]]) -> list[memoryview]:
    whole = memoryview(memory)
    return [whole[first : first + size] for first, size in places]


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # whatever a class raises there
        return False
    return True
