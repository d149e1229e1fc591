"""Collective operations between ranks."""

import functools
import pickle
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any, Literal, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import nn

_P = ParamSpec("_P")
_T = TypeVar("_T")
_PADDING = object()
_CHUNK_SIZE = 1024  # results sent at a time


def is_distributed() -> bool:
    """Checks whether a process group is initialized."""
    return dist.is_available() and dist.is_initialized()


def get_rank() -> int:
    """Returns the rank of this process; 0 without a process group."""
    return dist.get_rank() if is_distributed() else 0


def get_world_size() -> int:
    """Returns the number of ranks; 1 without a process group."""
    return dist.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """Checks whether this process is rank 0, which writes all output."""
    return get_rank() == 0


def master_only(function: Callable[_P, _T]) -> Callable[_P, _T | None]:
    """Decorates a function to run on rank 0 only; it returns None on other ranks."""

    @functools.wraps(function)
    def on_main(*args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        return function(*args, **kwargs) if is_main_process() else None

    return on_main


def barrier() -> None:
    """Waits until all ranks have reached this call."""
    if is_distributed():
        dist.barrier()


def broadcast_object(value: _T, source: int = 0) -> _T:
    """Returns on every rank the `value` of rank `source`."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=source)
    return box[0]


def compute_on_main(compute: Callable[[], _T]) -> _T:
    """Calls a function on rank 0; returns its result, or raises its exception, on every rank.

    Use it where ranks could get different results, for example when listing a folder that is being written to.
    """
    result: _T | None = None
    raised: Exception | None = None
    if is_main_process():
        try:
            result = compute()
        except Exception as error:  # noqa: BLE001 - raised again, on every rank
            raised = error
    result, raised = broadcast_object((result, raised))
    if raised is not None:
        raise raised
    return result  # type: ignore[return-value]


def broadcast_buffers(model: nn.Module) -> None:
    """Copies the buffers of rank 0, such as batch norm statistics, to every rank."""
    if not is_distributed():
        return
    for buffer in model.buffers():
        if buffer.numel() and not hasattr(buffer, "to_local"):  # sharded buffers are left as they are
            dist.broadcast(buffer, src=0)


def gather_objects(value: _T) -> list[_T]:
    """Returns on every rank the list of all ranks' values, ordered by rank."""
    if not is_distributed():
        return [value]
    found: list[Any] = [None] * get_world_size()
    dist.all_gather_object(found, value)
    return found


def collect_results(results: Sequence[_T], size: int, device: Literal["cpu", "gpu"] = "cpu") -> list[_T] | None:
    """Returns the results of all ranks in dataset order on rank 0, and None on other ranks.

    Results are sent in chunks, so that only rank 0 holds more than its own.

    Args:
        results: One entry per sample. Rank r of n holds those of samples r, r + n, r + 2n, ...
        size: The number of samples in the dataset. Further entries, which a sampler added as padding, are dropped.
        device: The memory to send from, if the backend supports it.
    """
    if not is_distributed():
        return list(results[:size])
    rank, world = get_rank(), get_world_size()
    own = results[: local_sample_count(size, rank, world)]
    transfer = _transfer_device(device)
    lengths = _all_lengths(len(own), transfer)
    ordered: list[Any] = []
    for begin in range(0, max(lengths), _CHUNK_SIZE):
        parts = _gather_bytes(pickle.dumps(own[begin : begin + _CHUNK_SIZE]), transfer)
        if parts is not None:
            rows = zip_longest(*map(pickle.loads, parts), fillvalue=_PADDING)  # trusted: sent by a rank of this run
            ordered += [entry for entry in chain.from_iterable(rows) if entry is not _PADDING]
    return ordered if rank == 0 else None


def local_sample_count(size: int, rank: int, world: int) -> int:
    """Returns how many of `size` samples a rank gets if samples are assigned to ranks in turn.

    Example:
        >>> [local_sample_count(7, rank, 3) for rank in range(3)]
        [3, 2, 2]
    """
    return len(range(rank, size, world))


def _transfer_device(device: str) -> torch.device:
    """Returns the requested device if the backend supports it, or else a device that it supports."""
    kinds = [part.partition(":")[0] for part in dist.get_backend_config().split(",")]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None and accelerator.type in kinds and (device == "gpu" or "cpu" not in kinds):
        return torch.device(accelerator.type, torch.accelerator.current_device_index())
    return torch.device("cpu")


def _all_lengths(length: int, device: torch.device) -> list[int]:
    lengths = [torch.zeros((), dtype=torch.int64, device=device) for _ in range(get_world_size())]
    dist.all_gather(lengths, torch.tensor(length, dtype=torch.int64, device=device))
    return [int(each) for each in lengths]


def _gather_bytes(content: bytes, device: torch.device) -> list[bytes] | None:
    """Returns the content of every rank on rank 0, and None on other ranks."""
    lengths = _all_lengths(len(content), device)
    padded = torch.zeros(max(lengths), dtype=torch.uint8)
    padded[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    padded = padded.to(device)
    if get_rank() != 0:
        dist.gather(padded)
        return None
    found = [torch.empty_like(padded) for _ in lengths]
    dist.gather(padded, found)
    return [each[:length].cpu().numpy().tobytes() for each, length in zip(found, lengths, strict=True)]
