"""What ranks tell each other."""

import functools
from collections.abc import Callable
from itertools import chain, zip_longest
from typing import Any, ParamSpec, TypeVar

import torch.distributed as dist

_P = ParamSpec("_P")
_T = TypeVar("_T")
_NOTHING = object()


def is_distributed() -> bool:
    """Tells whether several processes train together."""
    return dist.is_available() and dist.is_initialized()


def get_rank() -> int:
    """Returns the number of this process, 0 when it is alone."""
    return dist.get_rank() if is_distributed() else 0


def get_world_size() -> int:
    """Returns how many processes train together."""
    return dist.get_world_size() if is_distributed() else 1


def is_main_process() -> bool:
    """Tells whether this process is the one that writes."""
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


def gather_objects(value: _T) -> list[_T]:
    """Returns the `value` of every rank, in the order of ranks, on every rank."""
    if not is_distributed():
        return [value]
    found: list[Any] = [None] * get_world_size()
    dist.all_gather_object(found, value)
    return found


def collect_results(results: list[_T], size: int) -> list[_T]:
    """Returns the results of all ranks in data-set order, on every rank.

    Args:
        results: One entry a sample; rank r of n holds those of the samples r, r + n, r + 2n ...
        size: How many samples the data set has; entries beyond, which a sampler repeated to fill up, are dropped.
    """
    parts = gather_objects(results)
    rows = zip_longest(*parts, fillvalue=_NOTHING)
    ordered = [entry for entry in chain.from_iterable(rows) if entry is not _NOTHING]
    return ordered[:size]  # type: ignore[return-value]
