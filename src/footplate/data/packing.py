"""Batches on their way from a worker to the main process: all their numbers in one piece of shared memory."""

import io
import pickle
from collections.abc import Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes: where a tensor begins, so that vector instructions may read it


class PackedBatch:
    """A batch as bytes that may be sent, its dense tensors and arrays in one piece of shared memory.

    Torch hands each tensor over by itself, which takes several messages between the two processes: some hundred
    microseconds of the main process, for each of the pictures and label maps of a batch.

    Args:
        content: The batch, pickled, without its numbers.
        places: Where each tensor or array begins in the memory, and its bytes.
        memory: (N,) uint8.
    """

    def __init__(self, content: bytes, places: Sequence[tuple[int, int]], memory: Tensor) -> None:
        self._content, self._places, self._memory = content, places, memory

    @classmethod
    def of(cls, batch: Any) -> "PackedBatch":
        """Packs a batch.

        Raises:
            Exception: Whatever a class raises that cannot be pickled.
        """
        numbers: list[pickle.PickleBuffer] = []
        content = io.BytesIO()
        _Pickler(content, pickle.HIGHEST_PROTOCOL, True, numbers.append).dump(batch)
        places, size = [], 0
        for each in numbers:
            places.append((size, each.raw().nbytes))
            size += -(-places[-1][1] // _ALIGNMENT) * _ALIGNMENT
        memory = torch.empty(size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        for part, each in zip(_parts(memory, places), numbers, strict=True):
            part[:] = each.raw()
        return cls(content.getvalue(), places, memory)

    def unpack(self) -> Any:
        """Returns the batch, whose tensors and arrays are views of the memory."""
        return pickle.loads(self._content, buffers=_parts(self._memory, self._places))

    def pin_memory(self) -> "PackedBatch":
        """Returns the same in memory that an accelerator reads by itself; a loader with `pin_memory` calls it."""
        return PackedBatch(self._content, self._places, self._memory.pin_memory())


class _Pickler(ForkingPickler):
    """Pickles as queues do, but dense tensors as arrays are: their numbers apart, for the receiver to place."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Tensor or not _is_plain(value):
            return NotImplemented
        value = value.resolve_conj().resolve_neg()
        dense = value if _span(value) == value.numel() else value.contiguous()
        flat = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
        return _tensor, (pickle.PickleBuffer(flat.numpy()), dense.dtype, dense.shape, dense.stride())


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
    """Tells whether a tensor is nothing but its numbers, in the memory of the processor."""
    dense = value.layout is torch.strided and value.device.type == "cpu"
    return dense and not value.is_quantized and not value.requires_grad


def _span(value: Tensor) -> int:
    """Returns over how many places in memory a tensor reaches; as many as it has numbers where it leaves no gap."""
    if not value.numel():
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))


def _tensor(numbers: memoryview, dtype: torch.dtype, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    if not numbers.nbytes:
        return torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype)
    return torch.frombuffer(numbers, dtype=dtype).as_strided(tuple(shape), tuple(stride))


def _parts(memory: Tensor, places: Sequence[tuple[int, int]]) -> list[memoryview]:
    whole = memoryview(memory.numpy())  # type: ignore[arg-type]
    return [whole[first : first + size] for first, size in places]


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # whatever a class raises there
        return False
    return True
