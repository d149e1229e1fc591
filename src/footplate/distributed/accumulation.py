"""Gradients of a round of accumulation that is not full: each process has its own, which are not exchanged yet.

They are saved as a tensor in parts, `(processes, *shape)`, of which each process holds its row.
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
    """Returns the gradients that processes have exchanged, those of parameters in parts, and None for the others."""
    return [each.grad if is_dtensor(each) else None for each in parameters]


def unreduced_gradients(model: nn.Module, parameters: Iterable[Tensor]) -> list[Tensor | None]:
    """Returns for each parameter what the processes have not exchanged, `(processes, *shape)`, in parts.

    Every process calls this.

    Args:
        model: The model.
        parameters: Some of its parameters; of those without such a gradient on any process comes None.
    """
    from torch.distributed.tensor import DTensor, Shard

    several = list(parameters)
    own = _own(model, several)
    mesh = _mesh_of(several[0])
    return [
        DTensor.from_local(_dense(gradient, parameter)[None], mesh, [Shard(0)]) if is_there else None
        for gradient, parameter, is_there in zip(own, several, _there(own, several), strict=True)
    ]


def restore_gradients(model: nn.Module, parameters: Iterable[Tensor], saved: Iterable[Tensor | None]) -> None:
    """Adds to the gradients of this process what it had; on another number of processes, the mean of what all had.

    Every process calls this.

    Args:
        model: The model.
        parameters: The parameters.
        saved: Of each what `own_gradients` gave, in parts or whole.
    """
    places = _places(model)
    for parameter, rows in zip(parameters, saved, strict=True):
        if rows is None:
            continue
        place = places.get(id(parameter))
        if rows.shape[0] != get_world_size():
            _add(parameter, distribute_like(_mean_of(rows).to(parameter.device, parameter.dtype), parameter))
        elif place is None:
            _add(parameter, _row(rows).to(parameter.device))
        else:
            place.unsharded_accumulated_grad = _row(rows).to(place.device).clone()


def average_gradients(model: nn.Module, parameters: Iterable[Tensor]) -> list[Tensor | None]:
    """Returns the means over all processes of gradients that were not exchanged yet, in the form of the parameters.

    Every process calls this. The gradients themselves stay as they are.

    Args:
        model: The model.
        parameters: Some of its parameters; of those without a gradient on any process comes None.
    """
    several = list(parameters)
    own = _own(model, several)
    means: list[Tensor | None] = []
    for parameter, gradient, is_there in zip(several, own, _there(own, several), strict=True):
        mean = parameter.grad if is_dtensor(parameter) else None
        if is_there:
            total = _dense(gradient, parameter).clone()
            dist.all_reduce(total)
            new = distribute_like(total / get_world_size(), parameter)
            mean = new if mean is None else mean + new
        means.append(mean)
    return means


def _own(model: nn.Module, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    places = _places(model)
    return [_waiting(places[id(each)]) if id(each) in places else each.grad for each in parameters]


def _there(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[int]:
    """Tells of each whether any process has it."""
    there = torch.tensor([each is not None for each in gradients], dtype=torch.uint8, device=parameters[0].device)
    dist.all_reduce(there, dist.ReduceOp.MAX)
    found: list[int] = there.tolist()
    return found


def _dense(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros(parameter.shape, dtype=parameter.dtype, device=local_tensor(parameter).device)
    return gradient.detach()


def _places(model: nn.Module) -> dict[int, Any]:
    """Returns where `fully_shard` keeps what it knows of each parameter in parts, by the identity of the parameter."""
    found: dict[int, Any] = {}
    for module in model.modules():
        state = module._get_fsdp_state() if is_sharded(module) else None  # type: ignore[operator]
        groups = getattr(state, "_fsdp_param_groups", None)  # older torch has one
        if groups is None:
            one = getattr(state, "_fsdp_param_group", None)
            groups = [] if one is None else [one]
        for group in groups:
            found.update((id(each.sharded_param), each) for each in group.fsdp_params)
    return found


def _waiting(place: Any) -> Tensor | None:
    """Returns the whole gradient that waits to be exchanged."""
    # Nothing public tells of it; the second is where it lies when gradients have the dtype of the weights.
    gradient: Tensor | None = place.unsharded_accumulated_grad
    return getattr(getattr(place, "_unsharded_param", None), "grad", None) if gradient is None else gradient


def _mesh_of(parameter: Tensor) -> Any:
    mesh = getattr(parameter, "device_mesh", None)
    return _mesh_of_all(parameter.device.type, dist.group.WORLD) if mesh is None else mesh


@functools.lru_cache(maxsize=1)
def _mesh_of_all(device: str, group: object) -> Any:
    """Makes a mesh of all processes, once for each group that they are: it may cost connections between all."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (get_world_size(),))


def _row(rows: Tensor) -> Tensor:
    return local_tensor(rows)[0] if is_dtensor(rows) else rows[get_rank()]


def _mean_of(rows: Tensor) -> Tensor:
    total = local_tensor(rows).sum(0)
    if is_dtensor(rows):
        dist.all_reduce(total)
    return total / rows.shape[0]


def _add(parameter: Tensor, gradient: Tensor) -> None:
    parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient
