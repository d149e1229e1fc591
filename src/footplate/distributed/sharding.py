"""Operations on tensors that may be DTensors, and on gradients that have not been reduced across ranks yet.

DTensors are recognized by their attributes, because importing the class is slow.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate.distributed.collectives import broadcast_tensors, get_world_size, is_distributed


def is_dtensor(tensor: Tensor) -> bool:
    """Checks whether `tensor` is a DTensor."""
    return type(tensor) is not Tensor and hasattr(tensor, "device_mesh")  # the first check is faster


def is_sharded(model: nn.Module) -> bool:
    """Checks whether `fully_shard` was applied to `model`, or to a model that contains it, such as a PlainModel."""
    return _is_unit(model) or any(map(is_dtensor, model.parameters()))


def _is_unit(module: nn.Module) -> bool:
    return hasattr(module, "set_requires_gradient_sync")


def local_tensor(tensor: Tensor) -> Tensor:
    """Returns the local shard of a DTensor without copying it. Returns other tensors unchanged."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else torch.as_tensor(to_local())


def full_tensor(tensor: Tensor) -> Tensor:
    """Gathers a DTensor into a full tensor. Returns other tensors unchanged.

    All ranks in the mesh of a DTensor must call this function.
    """
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else torch.as_tensor(gather())


def reshard(model: nn.Module) -> nn.Module:
    """Frees the full parameters that a forward pass left in `model`, and returns the model."""
    for module in filter(_is_unit, model.modules()):
        module.reshard()  # type: ignore[operator]
    return model


def distribute_like(value: Tensor, like: Tensor) -> Tensor:
    """Returns `value` sharded like `like`, or as a full tensor if `like` is not sharded.

    All ranks must call this function. If `value` is not sharded, pass the same value on all ranks. If the shapes
    differ, returns `value` unchanged.
    """
    if not is_dtensor(like):
        return full_tensor(value)
    if value.shape != like.shape:
        return value
    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    if is_dtensor(value) and value.device_mesh != mesh:  # type: ignore[attr-defined]
        value = full_tensor(value)
    if is_dtensor(value):
        return torch.as_tensor(value.redistribute(mesh, placements))  # type: ignore[attr-defined]
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(mesh.device_type), mesh, placements, src_data_rank=None)


def tensor_norms(tensors: Iterable[Tensor], order: float = 2.0) -> Tensor:
    """Returns a tensor of shape `(N,)` with the norms of N tensors. A DTensor's norm covers all of its shards.

    `order` is the order of the norm, and may be infinite. Performs one all-reduce per sharded mesh dimension.
    """
    tensors = list(tensors)
    local = [local_tensor(tensor) for tensor in tensors]
    # Replace empty shards, which have no infinity norm.
    filled = [shard if shard.numel() else shard.new_zeros(1) for shard in local]
    norms = torch.stack([torch.linalg.vector_norm(shard, order) for shard in filled])
    is_maximum = order == float("inf")
    powers = norms if is_maximum else norms**order
    operation = dist.ReduceOp.MAX if is_maximum else dist.ReduceOp.SUM
    owners: dict[Any, list[int]] = {}  # by mesh dimension: the indices of the tensors sharded in it
    for index, tensor in enumerate(tensors):
        if is_dtensor(tensor):
            mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
            for dim, placement in enumerate(placements):
                if not placement.is_replicate():
                    owners.setdefault(mesh.get_group(dim), []).append(index)
    for group, indices in owners.items():
        reduced = powers[indices]
        dist.all_reduce(reduced, operation, group=group)
        powers[indices] = reduced
    return powers if is_maximum else powers ** (1 / order)


def new_cpu_group() -> Any:
    """Creates a gloo group of all ranks, or returns None without a process group. All ranks must call this function."""
    return dist.new_group(backend="gloo") if is_distributed() else None


def initialize_from_main(model: nn.Module) -> None:
    """Calls an unsharded model's `init_weights`, if any, and copies parameters and buffers from rank 0 to all ranks."""
    if hasattr(model, "init_weights"):
        model.init_weights()  # type: ignore[operator]
    broadcast_tensors([*model.parameters(), *model.buffers()])


def mean_gradients(parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Returns the mean of each parameter's gradient over all ranks. All ranks must call this function.

    A missing gradient counts as zero. If no rank has a gradient for a parameter, the entry is None. Use this function
    while DistributedDataParallel accumulates gradients, which then differ between ranks.
    """
    exists = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
    exists = exists.to(parameters[0].device)
    dist.all_reduce(exists, dist.ReduceOp.MAX)
    means: list[Tensor | None] = [None] * len(parameters)
    for index in exists.nonzero().flatten().tolist():
        parameter = parameters[index]
        mean = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        dist.all_reduce(mean)
        means[index] = mean.detach() / get_world_size()
    return means
