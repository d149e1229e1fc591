"""Saves and restores accumulated gradients that have not been reduced across ranks yet.

In the middle of gradient accumulation, every rank holds its own gradients. They are saved as a sharded tensor of shape
`(ranks, *shape)`, of which every rank holds its row.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate.distributed.collectives import get_rank, get_world_size
from footplate.distributed.sharding import distribute_like, is_dtensor, is_sharded, local_tensor


def reduced_gradients(parameters: Iterable[Tensor]) -> list[Tensor | None]:
    """Returns the gradients of sharded parameters, which are already reduced, and None for the others."""
    return [each.grad if is_dtensor(each) else None for each in parameters]


def unreduced_gradients(model: nn.Module, parameters: Iterable[Tensor]) -> list[Tensor | None]:
    """Returns the unreduced gradient of each parameter as a sharded tensor `(ranks, *shape)`.

    The entry is None if no rank has an unreduced gradient. Every rank must call this.

    Args:
        model: The model.
        parameters: Some of its parameters.
    """
    from torch.distributed.tensor import DTensor, Shard

    parameter_list = list(parameters)
    own = _local_gradients(model, parameter_list)
    mesh = _mesh_of(parameter_list[0])
    return [
        DTensor.from_local(_gradient_or_zeros(gradient, parameter)[None], mesh, [Shard(0)]) if exists else None
        for gradient, parameter, exists in zip(
            own, parameter_list, _exists_on_any_rank(own, parameter_list), strict=True
        )
    ]


def restore_gradients(model: nn.Module, parameters: Iterable[Tensor], saved: Iterable[Tensor | None]) -> None:
    """Adds the saved gradients of this rank; if the number of ranks has changed, the mean over all saved ranks.

    Every rank must call this.

    Args:
        model: The model.
        parameters: The parameters.
        saved: The result of `unreduced_gradients`, sharded or as full tensors.
    """
    states = _fsdp_states(model)
    for parameter, rows in zip(parameters, saved, strict=True):
        if rows is None:
            continue
        state = states.get(id(parameter))
        if rows.shape[0] != get_world_size():
            _add(parameter, distribute_like(_mean_of_rows(rows).to(parameter.device, parameter.dtype), parameter))
        elif state is None:
            _add(parameter, _own_row(rows).to(parameter.device))
        else:
            state.unsharded_accumulated_grad = _own_row(rows).to(state.device).clone()


def average_gradients(model: nn.Module, parameters: Iterable[Tensor]) -> list[Tensor | None]:
    """Returns the mean over all ranks of the unreduced gradients, sharded like the parameters.

    The gradients themselves do not change. The entry is None if no rank has a gradient. Every rank must call this.

    Args:
        model: The model.
        parameters: Some of its parameters.
    """
    parameter_list = list(parameters)
    own = _local_gradients(model, parameter_list)
    means: list[Tensor | None] = []
    for parameter, gradient, exists in zip(parameter_list, own, _exists_on_any_rank(own, parameter_list), strict=True):
        mean = parameter.grad if is_dtensor(parameter) else None
        if exists:
            total = _gradient_or_zeros(gradient, parameter).clone()
            dist.all_reduce(total)
            new = distribute_like(total / get_world_size(), parameter)
            mean = new if mean is None else mean + new
        means.append(mean)
    return means


def _local_gradients(model: nn.Module, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    states = _fsdp_states(model)
    return [_unreduced(states[id(each)]) if id(each) in states else each.grad for each in parameters]


def _exists_on_any_rank(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[int]:
    """Returns for each gradient 1 if any rank has it, otherwise 0."""
    exists = torch.tensor([each is not None for each in gradients], dtype=torch.uint8, device=parameters[0].device)
    dist.all_reduce(exists, dist.ReduceOp.MAX)
    found: list[int] = exists.tolist()
    return found


def _gradient_or_zeros(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros(parameter.shape, dtype=parameter.dtype, device=local_tensor(parameter).device)
    return gradient.detach()


def _fsdp_states(model: nn.Module) -> dict[int, Any]:
    """Returns the FSDP state of each sharded parameter, by the id of the parameter."""
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


def _unreduced(state: Any) -> Tensor | None:
    """Returns the full gradient that has not been reduced yet."""
    # There is no public API. The second attribute is used if gradients have the dtype of the weights.
    gradient: Tensor | None = state.unsharded_accumulated_grad
    return getattr(getattr(state, "_unsharded_param", None), "grad", None) if gradient is None else gradient


def _mesh_of(parameter: Tensor) -> Any:
    mesh = getattr(parameter, "device_mesh", None)
    return _world_mesh(parameter.device.type, dist.group.WORLD) if mesh is None else mesh


@functools.lru_cache(maxsize=1)
def _world_mesh(device: str, group: object) -> Any:
    """Creates a mesh of all ranks, cached because creating it may open connections between all of them."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (get_world_size(),))


def _own_row(rows: Tensor) -> Tensor:
    return local_tensor(rows)[0] if is_dtensor(rows) else rows[get_rank()]


def _mean_of_rows(rows: Tensor) -> Tensor:
    total = local_tensor(rows).sum(0)
    if is_dtensor(rows):
        dist.all_reduce(total)
    return total / rows.shape[0]


def _add(parameter: Tensor, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
