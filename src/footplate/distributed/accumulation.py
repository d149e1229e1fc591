"""Saves and restores accumulated gradients that have not been reduced across ranks yet.

In the middle of gradient accumulation, every rank has its own gradients. They are saved as a sharded tensor of shape
`(ranks, *shape)`. Every rank stores its row.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate.distributed.collectives import get_rank, get_world_size, tensor_parallel_size
from footplate.distributed.sharding import (
    distribute_like,
    full_tensor,
    is_dtensor,
    is_sharded,
    local_tensor,
    world_mesh,
)


def reduced_gradients(parameters: Iterable[Tensor]) -> list[Tensor | None]:
    """Returns the reduced gradient of each sharded parameter, and None for all other parameters."""
    return [each.grad if is_dtensor(each) else None for each in parameters]


def unreduced_gradients(model: nn.Module, parameters: Iterable[Tensor]) -> list[Tensor | None]:
    """Returns the unreduced gradient of each parameter as a sharded tensor `(ranks, *shape)`.

    `parameters` are some of the model's parameters. The result for a parameter is None if no rank has an unreduced
    gradient for it. Every rank must call this.
    """
    from torch.distributed.tensor import DTensor, Shard

    parameter_list = list(parameters)
    mesh = getattr(parameter_list[0], "device_mesh", None)
    if mesh is None or mesh.ndim > 1:  # each rank has its own gradients, even within a replica
        mesh = world_mesh(parameter_list[0].device.type, dist.group.WORLD)
    return [
        None if each is None else DTensor.from_local(each[None], mesh, [Shard(0)])
        for each in _local_gradients(model, parameter_list)
    ]


def restore_gradients(model: nn.Module, parameters: Iterable[Tensor], saved: Iterable[Tensor | None]) -> None:
    """Adds the saved gradients of this rank to its current ones.

    If the number of ranks has changed, or ranks share layers, adds the mean over all saved ranks instead: tensor
    parallelism reduces gradients in every backward pass.

    Every rank must call this.

    Args:
        model: The model.
        parameters: Some of the model's parameters.
        saved: The result of `unreduced_gradients`, sharded or as full tensors.
    """
    states = _fsdp_states(model)
    for parameter, rows in zip(parameters, saved, strict=True):
        if rows is None:
            continue
        if is_dtensor(rows) and rows.device_mesh.ndim > 1:  # type: ignore[attr-defined]
            rows = full_tensor(rows)  # a shard of a replica has the rows of other ranks
        state = states.get(id(parameter))
        if rows.shape[0] != get_world_size() or tensor_parallel_size() > 1:
            total = local_tensor(rows).sum(0)
            if is_dtensor(rows):
                dist.all_reduce(total)
            mean = (total / rows.shape[0]).to(parameter.device, parameter.dtype)
            _add(parameter, distribute_like(mean, parameter))
            continue
        own = local_tensor(rows)[0] if is_dtensor(rows) else rows[get_rank()]
        if state is None:
            _add(parameter, own.to(parameter.device))
        else:
            state.unsharded_accumulated_grad = own.to(state.device).clone()


def average_gradients(model: nn.Module, parameters: Iterable[Tensor]) -> list[Tensor | None]:
    """Averages the unreduced gradients over all ranks and returns the means, sharded like the parameters.

    The gradients themselves do not change. The entry is None if no rank has a gradient. Every rank must call this.
    """
    parameter_list = list(parameters)
    means: list[Tensor | None] = []
    for parameter, gradient in zip(parameter_list, _local_gradients(model, parameter_list), strict=True):
        mean = parameter.grad if is_dtensor(parameter) else None
        if gradient is not None:
            total = gradient.clone()
            dist.all_reduce(total)
            new = distribute_like(total / get_world_size(), parameter)
            mean = new if mean is None else mean + new
        means.append(mean)
    return means


def _local_gradients(model: nn.Module, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Returns the unreduced gradient of each parameter on this rank.

    It is zero if only other ranks have a gradient, and None if no rank has one.
    """
    states = _fsdp_states(model)
    own: list[Tensor | None] = []
    for parameter in parameters:
        state = states.get(id(parameter))
        if state is None:
            own.append(parameter.grad)
        else:
            # There is no public API. The second attribute is used if gradients have the dtype of the weights.
            unsharded = getattr(getattr(state, "_unsharded_param", None), "grad", None)
            gradient = state.unsharded_accumulated_grad
            own.append(unsharded if gradient is None else gradient)
    exists = torch.tensor([each is not None for each in own], dtype=torch.uint8, device=parameters[0].device)
    dist.all_reduce(exists, dist.ReduceOp.MAX)
    found: list[Tensor | None] = []
    for parameter, gradient, exists_anywhere in zip(parameters, own, exists.tolist(), strict=True):
        if gradient is None and exists_anywhere:
            gradient = torch.zeros(parameter.shape, dtype=parameter.dtype, device=local_tensor(parameter).device)
        found.append(None if gradient is None else gradient.detach())
    return found


def _fsdp_states(model: nn.Module) -> dict[int, Any]:
    """Maps the id of each sharded parameter to its FSDP state."""
    found: dict[int, Any] = {}
    for module in model.modules():
        state = module._get_fsdp_state() if is_sharded(module) else None  # type: ignore[operator]
        groups = getattr(state, "_fsdp_param_groups", None)  # older versions of torch have a single group
        if groups is None:
            one = getattr(state, "_fsdp_param_group", None)
            groups = [] if one is None else [one]
        for group in groups:
            found.update((id(each.sharded_param), each) for each in group.fsdp_params)
    return found


def _add(parameter: Tensor, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
