"""Defines `FullyShard`, which configures FSDP2."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from footplate.checks import check_choice, check_flag, check_keys
from footplate.distributed.collectives import get_world_size, is_distributed
from footplate.distributed.sharding import initialize_from_main
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.module_selection import select_modules
from footplate.registry import MODEL_WRAPPERS

_PRECISION_KEYS = ("param_dtype", "reduce_dtype", "output_dtype", "cast_forward_inputs")
_DTYPES = ("float16", "bfloat16", "float32", "float64")


@MODEL_WRAPPERS.register_module()
def FullyShard(  # noqa: N802 - the name that configs use
    module: nn.Module,
    *,
    shard: Mapping[str, Any] | None = None,
    mesh: Sequence[int] | None = None,
    mixed_precision: Mapping[str, Any] | None = None,
    reshard_after_forward: bool | int | None = None,
    offload: str | None = None,
    forward_methods: Sequence[str] = (),
) -> nn.Module:
    """Shards parameters, gradients and optimizer states across ranks with PyTorch's `fully_shard`.

    Each module selected by `shard` forms a communication group, and the remaining parameters form another one. Weights
    are initialized before sharding, so that they do not depend on the number of ranks.

    Source: PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel (Zhao et al., 2023).

    Args:
        module: The unsharded model, on its device. Without a process group, the model is returned unchanged.
        shard: A dict with `classes` (class names of modules) and `names` (regular expressions that must match full
            module names).
        mesh: `(replicas, shards)`. Weights are sharded within groups of `shards` consecutive ranks. Each group holds a
            replica. Replicas times shards must equal the number of processes. By default, all processes form one group.
        mixed_precision: A dict with `param_dtype`, `reduce_dtype` and `output_dtype` as dtype names, and
            `cast_forward_inputs`.
        reshard_after_forward: Whether to free the full parameters after the forward pass. A number reshards them across
            that many ranks. None means True for all modules except the root.
        offload: "cpu" keeps the shards in host memory.
        forward_methods: Methods other than `forward` that use the parameters of a sharded module, such as a head's
            `loss`.

    Raises:
        ArgumentError: A key, dtype or method is unknown, a class or pattern matches no module, two groups share a
            weight, or the mesh does not match the number of processes.
    """
    if mesh is not None and len(mesh) != 2:
        raise ArgumentError("mesh must be two numbers: (replicas, shards)", key="mesh", found=mesh)
    with at_key("shard"), located(shard):
        modules = {name: child for name, child in module.named_modules() if name and list(child.parameters())}
        chosen = select_modules(modules, shard or {})
        _check_shared_weights(module, chosen)
    for name in forward_methods:
        if not any(hasattr(candidate, name) for candidate in (*chosen.values(), module)):
            raise ArgumentError("no sharded module has a method with this name", key="forward_methods", found=name)
    with at_key("mixed_precision"), located(mixed_precision):
        precision = _precision(mixed_precision or {})
    if offload not in (None, "cpu"):
        raise ArgumentError("offload must be 'cpu' or None", key="offload", found=offload, suggestion="cpu")
    if not is_distributed():
        return module
    from torch.distributed import fsdp

    settings: dict[str, Any] = {
        "mesh": _device_mesh(next(module.parameters()).device.type, mesh),
        "mp_policy": fsdp.MixedPrecisionPolicy(**precision),
        "reshard_after_forward": reshard_after_forward,
    }
    if offload:
        settings["offload_policy"] = fsdp.CPUOffloadPolicy(pin_memory=torch.accelerator.is_available())
    initialize_from_main(module)
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # channels-last weights cannot be sharded
    for child in (*chosen.values(), module):
        fsdp.fully_shard(child, **settings)
        for name in forward_methods:
            if hasattr(child, name):
                fsdp.register_fsdp_forward_method(child, name)

    def reshard_without_gradients(root: nn.Module, *_: Any) -> None:
        """Reshards the root module if no backward pass will do so, for example during validation."""
        if not torch.is_grad_enabled():
            root.reshard()  # type: ignore[operator]

    module.register_forward_hook(reshard_without_gradients)
    return module


def _check_shared_weights(model: nn.Module, chosen: Mapping[str, nn.Module]) -> None:
    """Raises an ArgumentError if two communication groups share a weight."""
    rest = "the rest of the model"
    groups: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners = [owner for owner in chosen if name.startswith(f"{owner}.")]
        group = f"'{max(owners, key=len)}'" if owners else rest
        if groups.setdefault(id(parameter), group) != group:
            separate = " or ".join(sorted({groups[id(parameter)], group} - {rest}))
            raise ArgumentError(
                f"{groups[id(parameter)]} and {group} share the weight '{name}', so they cannot be sharded separately",
                notes=[f"Select a module that contains all uses of the weight, or do not select {separate}."],
            )


def _device_mesh(device: str, mesh: Sequence[int] | None) -> Any:
    """Returns the mesh for sharding and replication. All ranks must call this function."""
    from torch.distributed.device_mesh import init_device_mesh

    world = get_world_size()
    sizes = {"shard": world} if mesh is None else {"replicate": mesh[0], "shard": mesh[1]}
    if math.prod(sizes.values()) != world:
        message = f"mesh={mesh} does not match the number of processes, {world}"
        notes = ["Replicas times shards must equal the number of processes."]
        raise ArgumentError(message, key="mesh", found=mesh, notes=notes)
    return init_device_mesh(device, tuple(sizes.values()), mesh_dim_names=tuple(sizes))


def _precision(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Converts `mixed_precision` to arguments for PyTorch's MixedPrecisionPolicy."""
    check_keys("mixed_precision", cfg, _PRECISION_KEYS)
    policy: dict[str, Any] = {}
    for key, value in cfg.items():
        if key == "cast_forward_inputs":
            policy[key] = check_flag(key, value)
        elif value is not None:
            policy[key] = getattr(torch, check_choice(key, str(value).removeprefix("torch."), _DTYPES))
    return policy
