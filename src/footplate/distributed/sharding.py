"""Tensors that lie in parts on several processes, as FSDP2 leaves the parameters of a model.

Importing the class of such tensors takes its time, so that they are known by their methods.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate.distributed.collectives import is_distributed, is_main_process

_T = TypeVar("_T")


def is_dtensor(tensor: Tensor) -> bool:
    """Checks whether `tensor` is this process' part of one that lies on several."""
    return hasattr(tensor, "device_mesh")


def is_sharded(model: nn.Module) -> bool:
    """Checks whether the parameters of `model` lie in parts on several processes, as `fully_shard` leaves them."""
    return hasattr(model, "set_requires_gradient_sync")


def local_tensor(tensor: Tensor) -> Tensor:
    """Returns what this process holds of `tensor`: the same memory, all of it where it is no part."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else torch.as_tensor(to_local())


def full_tensor(tensor: Tensor) -> Tensor:
    """Returns all of `tensor`; where it is a part, every process that holds one calls this."""
    full_tensor = getattr(tensor, "full_tensor", None)
    return tensor if full_tensor is None else torch.as_tensor(full_tensor())


def reshard(model: nn.Module) -> nn.Module:
    """Has `model` hold its parts again where a forward pass left whole parameters, and returns it."""
    for module in model.modules() if is_sharded(model) else ():
        if is_sharded(module):
            module.reshard()  # type: ignore[operator]
    return model


def distribute_like(value: Tensor, like: Tensor) -> Tensor:
    """Returns `value` in the form of `like`: whole, or in the same parts.

    Every process calls this, with the same whole `value` where it is no part. One of another shape comes back as it is.
    """
    if not is_dtensor(like):
        return full_tensor(value)
    if value.shape != like.shape:
        return value
    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    if is_dtensor(value):
        return torch.as_tensor(value.redistribute(mesh, placements))  # type: ignore[attr-defined]
    from torch.distributed.tensor import distribute_tensor

    placed: Tensor = distribute_tensor(value.to(mesh.device_type), mesh, placements, src_data_rank=None)
    return placed


def gather_full_state(state: _T) -> _T:
    """Returns a state whose tensors are whole, on the CPU of the first process; every process calls this.

    One tensor after the other is put together. The other processes are left without them.
    """
    return _gathered(state, {})  # type: ignore[no-any-return]


def tensor_norms(parts: Iterable[Tensor], order: float = 2.0) -> Tensor:
    """Returns the norm of each whole tensor, `(N,)`, all ranks told with one exchange.

    Args:
        parts: Tensors in parts, over the same processes, or whole ones.
        order: The order of the norm.
    """
    tensors = list(parts)
    held = [local_tensor(each) for each in tensors]
    # A process may hold nothing of a tensor, which has no greatest value.
    norms = torch.stack(torch._foreach_norm([each if each.numel() else each.new_zeros(1) for each in held], order))
    powers = norms if order == float("inf") else norms**order
    meshes = [getattr(each, "device_mesh", None) for each in tensors]
    for mesh in dict.fromkeys(each for each in meshes if each is not None):
        powers = _reduced(powers, [each is not None and each == mesh for each in meshes], mesh, order)
    return powers if order == float("inf") else powers ** (1 / order)


def new_cpu_group() -> Any:
    """Makes a group of all processes for messages between CPUs; None for one process alone. All call this together."""
    return dist.new_group(backend="gloo") if is_distributed() else None


def broadcast_values(model: nn.Module) -> None:
    """Gives all processes the parameters and buffers of the first."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            held = tensor.detach().contiguous()
            dist.broadcast(held, src=0)
            tensor.copy_(held)


def _reduced(powers: Tensor, concerned: list[bool], mesh: Any, order: float) -> Tensor:
    """Returns the powers with those of the tensors `concerned` taken together over the processes of a mesh."""
    chosen = torch.tensor(concerned, device=powers.device)
    told = powers.clone()
    operation = dist.ReduceOp.MAX if order == float("inf") else dist.ReduceOp.SUM
    for dimension in range(mesh.ndim):
        dist.all_reduce(told, operation, group=mesh.get_group(dimension))
    return torch.where(chosen, told, powers)


def _gathered(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, Tensor) and is_dtensor(value):
        key = local_tensor(value).data_ptr() or id(value)
        if key not in done:
            full = full_tensor(value.detach())
            done[key] = full.cpu() if is_main_process() else torch.empty(0)
        return done[key]
    if isinstance(value, Mapping):
        kept = {name: _gathered(each, done) for name, each in value.items()}
        if type(value) is dict:
            return kept
        copied = value.copy()  # type: ignore[attr-defined]
        copied.update(kept)
        return copied
    if type(value) in (list, tuple):
        return type(value)(_gathered(each, done) for each in value)
    return value
