"""Functions from `mmengine.dist` that use footplate's process groups, and those that first-generation code needs."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor

from footplate import distributed


def master_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function so that it runs only on rank 0 and returns None on other ranks."""

    @wraps(function)
    def on_main(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if distributed.is_main_process() else None

    return on_main


def init_dist(launcher: str, backend: str | None = None, **options: Any) -> None:
    """Initializes the default process group for a launcher: "none", "pytorch", "slurm" or "mpi".

    In `options`, only `timeout` and `port` have an effect.
    """
    options["backend"] = backend
    known = {key: options[key] for key in ("backend", "timeout", "port") if options.get(key) is not None}
    distributed.initialize(launcher, known or None)


@torch.no_grad()
def allreduce_params(params: Iterable[Tensor], coalesce: bool = True, bucket_size_mb: int = -1) -> None:
    """Averages tensors over all processes, in place. Ignores `coalesce` and `bucket_size_mb`."""
    size = distributed.get_world_size()
    for tensor in params if size > 1 else ():
        reduced = tensor.detach().clone().contiguous()
        torch_dist.all_reduce(reduced)
        tensor.copy_(reduced / size)


def collect_results(results: list[Any], size: int, device: str = "cpu", tmpdir: str | None = None) -> list[Any] | None:
    """Gathers the results from all processes on rank 0, in dataset order. Returns None on other ranks.

    Args:
        results: One result for each sample of this process.
        size: The number of samples in the dataset.
        device: Ignored; the results are always gathered in host memory.
        tmpdir: Ignored; results are exchanged directly instead of through files.
    """
    return distributed.collect_results(results, size)


def collect_results_cpu(result_part: list[Any], size: int, tmpdir: str | None = None) -> list[Any] | None:
    """Calls `collect_results`."""
    return collect_results(result_part, size)


collect_results_gpu = collect_results_cpu
