"""The collectives of `mmengine.dist`. Without a process group, they behave as if the group had one process."""

import os
import random
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor

from footplate import distributed
from footplate.distributed import get_rank, get_world_size
from footplate.distributed.collectives import Group

_OPERATIONS = {
    "sum": torch_dist.ReduceOp.SUM,
    "mean": torch_dist.ReduceOp.SUM,
    "product": torch_dist.ReduceOp.PRODUCT,
    "min": torch_dist.ReduceOp.MIN,
    "max": torch_dist.ReduceOp.MAX,
}


def get_dist_info(group: Group = None) -> tuple[int, int]:
    """Returns the rank of this process and the number of processes."""
    return get_rank(group), get_world_size(group)


def master_only(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function so that it runs only on rank 0 and returns None on other ranks."""

    @wraps(function)
    def on_main(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if distributed.is_main_process() else None

    return on_main


def get_backend(group: Group = None) -> str | None:
    """Returns the backend of a group, such as "nccl", or None if no process group is initialized."""
    return torch_dist.get_backend(group) if distributed.is_distributed() else None


def get_default_group() -> Group:
    """Returns the default group, which contains all processes, or None if it is not initialized."""
    return torch_dist.group.WORLD if distributed.is_distributed() else None


def barrier(group: Group = None) -> None:
    """Waits until all processes of a group have reached this call."""
    if distributed.is_distributed():
        torch_dist.barrier(group)


def init_dist(launcher: str, backend: str | None = None, **options: Any) -> None:
    """Initializes the default process group for a launcher: "none", "pytorch", "slurm" or "mpi".

    In `options`, only `timeout` and `port` have an effect.
    """
    options["backend"] = backend
    known = {key: options[key] for key in ("backend", "timeout", "port") if options.get(key) is not None}
    distributed.initialize(launcher, known or None)


def infer_launcher() -> str:
    """Returns the launcher of this process ("slurm", "pytorch" or "none"), inferred from environment variables."""
    if "SLURM_NTASKS" in os.environ and "LOCAL_RANK" not in os.environ:
        return "slurm"
    return "pytorch" if "LOCAL_RANK" in os.environ else "none"


def get_comm_device(group: Group = None) -> torch.device:
    """Returns the device on which a group's backend expects tensors."""
    kinds = {"nccl": "cuda", "hccl": "npu", "cncl": "mlu", "mccl": "musa"}
    kind = kinds.get(str(get_backend(group)))
    return torch.device(kind, getattr(torch, kind).current_device()) if kind else torch.device("cpu")


def _sendable(data: Tensor, group: Group) -> Tensor:
    """Returns a contiguous tensor with the same values on the device of the group's backend."""
    return data.detach().to(get_comm_device(group)).contiguous()


@torch.no_grad()
def all_reduce(data: Tensor, op: str = "sum", group: Group = None) -> None:
    """Reduces a tensor across processes, in place.

    Args:
        data: The tensor.
        op: "sum", "mean", "product", "min" or "max".
        group: The process group; all processes by default.
    """
    size = get_world_size(group)
    if size <= 1:
        return
    reduced = _sendable(data, group).clone()
    torch_dist.all_reduce(reduced, _OPERATIONS[op], group)
    data.copy_(reduced / size if op == "mean" else reduced)


def all_reduce_dict(data: dict[str, Tensor], op: str = "sum", group: Group = None) -> None:
    """Reduces the tensors in a dict across processes, in place and in sorted key order; see `all_reduce`."""
    for key in sorted(data):
        all_reduce(data[key], op, group)


def all_reduce_params(
    params: Iterable[Tensor], coalesce: bool = True, bucket_size_mb: int = -1, op: str = "sum", group: Group = None
) -> None:
    """Reduces tensors across processes, in place.

    Args:
        params: The tensors.
        coalesce: Ignored; each tensor is reduced separately.
        bucket_size_mb: Ignored.
        op: See `all_reduce`.
        group: The process group; all processes by default.
    """
    for tensor in params:
        all_reduce(tensor.data, op, group)


def all_gather(data: Tensor, group: Group = None) -> list[Tensor]:
    """Gathers the tensors from all processes into a list. The tensors must have the same shape."""
    if get_world_size(group) == 1:
        return [data]
    sent = _sendable(data, group)
    received = [torch.empty_like(sent) for _ in range(get_world_size(group))]
    torch_dist.all_gather(received, sent, group)
    return [each.to(data.device) for each in received]


def broadcast(data: Tensor, src: int = 0, group: Group = None) -> None:
    """Broadcasts the tensor from process `src` to all processes, in place."""
    if get_world_size(group) > 1:
        sent = _sendable(data, group)
        torch_dist.broadcast(sent, src, group)
        data.detach().copy_(sent)


def broadcast_object_list(data: list[Any], src: int = 0, group: Group = None) -> None:
    """Replaces the items of a list with the items of the list on process `src`."""
    if get_world_size(group) > 1:
        torch_dist.broadcast_object_list(data, src, group)


def sync_random_seed(group: Group = None) -> int:
    """Returns the same random seed on all processes."""
    seed = [random.SystemRandom().randrange(2**31)]
    broadcast_object_list(seed, group=group)
    return seed[0]


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
