"""Operations on tensors that may be sharded across ranks (DTensor), such as the parameters of an FSDP2 model.

A DTensor is recognized by its attributes, because importing the class is slow.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate.distributed.collectives import is_distributed, is_main_process

_T = TypeVar("_T")


def is_dtensor(tensor: Tensor) -> bool:
    """Checks whether `tensor` is a DTensor."""
    return hasattr(tensor, "device_mesh")


def is_sharded(model: nn.Module) -> bool:
    """Checks whether `fully_shard` was applied to `model`."""
    return hasattr(model, "set_requires_gradient_sync")


def local_tensor(tensor: Tensor) -> Tensor:
    """Returns the local shard of a DTensor, sharing its memory. Other tensors are returned unchanged."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else torch.as_tensor(to_local())


def full_tensor(tensor: Tensor) -> Tensor:
    """Gathers a DTensor; every rank of its mesh must call this. Other tensors are returned unchanged."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else torch.as_tensor(gather())


def reshard(model: nn.Module) -> nn.Module:
    """Frees the full parameters that a forward pass left in `model`, and returns the model."""
    for module in model.modules() if is_sharded(model) else ():
        if is_sharded(module):
            module.reshard()  # type: ignore[operator]
    return model


def distribute_like(value: Tensor, like: Tensor) -> Tensor:
    """Returns `value` sharded like `like`, or as a full tensor if `like` is not sharded.

    Every rank must call this. If `value` is not sharded, it must be the same on all ranks. A value of another shape is
    returned unchanged.
    """
    if not is_dtensor(like):
        return full_tensor(value)
    if value.shape != like.shape:
        return value
    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    if is_dtensor(value):
        return torch.as_tensor(value.redistribute(mesh, placements))  # type: ignore[attr-defined]
    from torch.distributed.tensor import distribute_tensor

    sharded: Tensor = distribute_tensor(value.to(mesh.device_type), mesh, placements, src_data_rank=None)
    return sharded


def gather_full_state(state: _T) -> _T:
    """Gathers the sharded tensors of a state on the CPU of rank 0, one at a time. Every rank must call this.

    Other ranks get empty tensors in their place.
    """
    return _gather(state, {})  # type: ignore[no-any-return]


def tensor_norms(tensors: Iterable[Tensor], order: float = 2.0) -> Tensor:
    """Returns the norm of each full tensor, shape `(N,)`, with one all-reduce per mesh dimension.

    Args:
        tensors: The tensors, sharded or not.
        order: The order of the norm.
    """
    tensors = list(tensors)
    local = [local_tensor(each) for each in tensors]
    # A rank may hold an empty shard, which has no infinity norm.
    norms = torch.stack(torch._foreach_norm([each if each.numel() else each.new_zeros(1) for each in local], order))
    powers = norms if order == float("inf") else norms**order
    meshes = [getattr(each, "device_mesh", None) for each in tensors]
    for mesh in dict.fromkeys(each for each in meshes if each is not None):
        powers = _reduce_over_mesh(powers, [each is not None and each == mesh for each in meshes], mesh, order)
    return powers if order == float("inf") else powers ** (1 / order)


def new_cpu_group() -> Any:
    """Creates a gloo group of all ranks; None without a process group. Every rank must call this."""
    return dist.new_group(backend="gloo") if is_distributed() else None


def broadcast_values(model: nn.Module) -> None:
    """Copies the parameters and buffers of rank 0 to all ranks."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            value = tensor.detach().contiguous()
            dist.broadcast(value, src=0)
            tensor.copy_(value)


def _reduce_over_mesh(powers: Tensor, on_mesh: list[bool], mesh: Any, order: float) -> Tensor:
    """Reduces the powers of those tensors that are sharded over `mesh`; returns the others unchanged."""
    chosen = torch.tensor(on_mesh, device=powers.device)
    reduced = powers.clone()
    operation = dist.ReduceOp.MAX if order == float("inf") else dist.ReduceOp.SUM
    for dimension in range(mesh.ndim):
        dist.all_reduce(reduced, operation, group=mesh.get_group(dimension))
    return torch.where(chosen, reduced, powers)


def _gather(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, Tensor) and is_dtensor(value):
        key = local_tensor(value).data_ptr() or id(value)
        if key not in done:
            full = full_tensor(value.detach())
            done[key] = full.cpu() if is_main_process() else torch.empty(0)
        return done[key]
    if isinstance(value, Mapping):
        kept = {name: _gather(each, done) for name, each in value.items()}
        if type(value) is dict:
            return kept
        copied = value.copy()  # type: ignore[attr-defined]
        copied.update(kept)
        return copied
    if type(value) in (list, tuple):
        return type(value)(_gather(each, done) for each in value)
    return value
