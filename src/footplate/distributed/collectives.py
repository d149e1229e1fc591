"""What ranks tell each other."""

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
_NOTHING = object()
_PIECE = 1024  # results that travel at a time


def is_distributed() -> bool:
    """Checks whether several processes train together."""
    return dist.is_available() and dist.is_initialized()


def get_rank() -> int:
    """Returns the number of this process, 0 when it is alone."""
    return dist.get_rank() if is_distributed() else 0


def get_world_size() -> int:
    """Returns how many processes train together."""
    return dist.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """Checks whether this process is the one that writes."""
    return get_rank() == 0


def master_only(function: Callable[_P, _T]) -> Callable[_P, _T | None]:
    """Makes a function do nothing, and return None, on all processes but the first."""

    @functools.wraps(function)
    def on_first(*args: _P.args, **kwargs: _P.kwargs) -> _T | None:
        return function(*args, **kwargs) if is_main_process() else None

    return on_first


def barrier() -> None:
    """Waits until all processes are here."""
    if is_distributed():
        dist.barrier()


def broadcast_object(value: _T, source: int = 0) -> _T:
    """Returns the `value` of rank `source` on every rank."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=source)
    return box[0]


def compute_on_main(ask: Callable[[], _T]) -> _T:
    """Returns on every rank what `ask` returned, or raises what it raised, on the first.

    Only the first calls it: the others might find another answer, as in a folder that is being written to.
    """
    answer: _T | None = None
    failed: Exception | None = None
    if is_main_process():
        try:
            answer = ask()
        except Exception as error:  # noqa: BLE001 - raised again, on every rank
            failed = error
    answer, failed = broadcast_object((answer, failed))
    if failed is not None:
        raise failed
    return answer  # type: ignore[return-value]


def broadcast_buffers(model: nn.Module) -> None:
    """Gives every rank the buffers that the first one holds and saves, such as the means of batch norms."""
    if not is_distributed():
        return
    for buffer in model.buffers():
        if buffer.numel() and not hasattr(buffer, "to_local"):  # one that is sharded is no rank's own
            dist.broadcast(buffer, src=0)


def gather_objects(value: _T) -> list[_T]:
    """Returns the `value` of every rank, in the order of ranks, on every rank."""
    if not is_distributed():
        return [value]
    found: list[Any] = [None] * get_world_size()
    dist.all_gather_object(found, value)
    return found


def collect_results(results: Sequence[_T], size: int, device: Literal["cpu", "gpu"] = "cpu") -> list[_T] | None:
    """Returns the results of all ranks in data-set order on the first rank, None on the others.

    They travel a piece at a time, so that no rank but the first holds more than its own.

    Args:
        results: One entry a sample; rank r of n holds those of the samples r, r + n, r + 2n ...
        size: How many samples the data set has; entries beyond, which a sampler repeated to fill up, are dropped.
        device: Through which memory they travel, where the processes are connected through it.
    """
    if not is_distributed():
        return list(results[:size])
    rank, world = get_rank(), get_world_size()
    own = results[: local_sample_count(size, rank, world)]
    way = _way(device)
    lengths = _all_lengths(len(own), way)
    ordered: list[Any] = []
    for begin in range(0, max(lengths), _PIECE):
        parts = _gather_bytes(pickle.dumps(own[begin : begin + _PIECE]), way)
        if parts is not None:
            rows = zip_longest(*map(pickle.loads, parts), fillvalue=_NOTHING)  # what a rank of this run has sent
            ordered += [entry for entry in chain.from_iterable(rows) if entry is not _NOTHING]
    return ordered if rank == 0 else None


def local_sample_count(size: int, rank: int, world: int) -> int:
    """Returns how many of `size` samples are a rank's, of which each takes every `world`-th.

    Example:
        >>> [local_sample_count(7, rank, 3) for rank in range(3)]
        [3, 2, 2]
    """
    return len(range(rank, size, world))


def _way(device: str) -> torch.device:
    """The memory that tensors are to travel through, or the one that the processes are connected by."""
    kinds = [part.partition(":")[0] for part in dist.get_backend_config().split(",")]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None and accelerator.type in kinds and (device == "gpu" or "cpu" not in kinds):
        return torch.device(accelerator.type, torch.accelerator.current_device_index())
    return torch.device("cpu")


def _all_lengths(length: int, way: torch.device) -> list[int]:
    lengths = [torch.zeros((), dtype=torch.int64, device=way) for _ in range(get_world_size())]
    dist.all_gather(lengths, torch.tensor(length, dtype=torch.int64, device=way))
    return [int(each) for each in lengths]


def _gather_bytes(content: bytes, way: torch.device) -> list[bytes] | None:
    """Returns what every rank gave on the first rank, None on the others."""
    lengths = _all_lengths(len(content), way)
    padded = torch.zeros(max(lengths), dtype=torch.uint8)
    padded[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    padded = padded.to(way)
    if get_rank() != 0:
        dist.gather(padded)
        return None
    found = [torch.empty_like(padded) for _ in lengths]
    dist.gather(padded, found)
    return [each[:length].cpu().numpy().tobytes() for each, length in zip(found, lengths, strict=True)]
