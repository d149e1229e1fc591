"""Defines `FullyShard`, which configures FSDP2 and tensor parallelism.

Tensor parallelism splits layers across the processes of a group with PyTorch's `parallelize_module`.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from footplate.checks import check_choice, check_count, check_flag, check_keys
from footplate.distributed.collectives import get_world_size, is_distributed, set_tensor_parallel_size
from footplate.distributed.sharding import initialize_from_main
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.module_selection import select_modules
from footplate.registry import MODEL_WRAPPERS

_PRECISION_KEYS = ("param_dtype", "reduce_dtype", "output_dtype", "cast_forward_inputs")
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_STYLES = ("colwise", "rowwise", "colwise_gather_output", "embedding_rowwise", "replicated_with_grad_allreduce")
_SPLIT_FEATURES = {"colwise": "out_features", "rowwise": "in_features"}  # the features that must be divisible


@MODEL_WRAPPERS.register_module()
def FullyShard(  # noqa: N802 - the name that configs use
    module: nn.Module,
    *,
    shard: Mapping[str, Any] | None = None,
    mesh: Sequence[int] | None = None,
    tensor_parallel: int | Mapping[str, Any] | None = None,
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
            replica. Replicas times shards times the tensor-parallel size must equal the number of processes. By
            default, all processes form one group.
        tensor_parallel: The number of consecutive ranks that each layer is split across. These ranks train on the same
            batches. You can also pass a dict with this number as `size` and a `plan` that maps patterns of module names
            to styles such as "colwise" and "rowwise". By default, the model's own plan is used.
        mixed_precision: A dict with `param_dtype`, `reduce_dtype` and `output_dtype` as dtype names, and
            `cast_forward_inputs`.
        reshard_after_forward: Whether to free the full parameters after the forward pass. A number reshards them across
            that many ranks. None means True for all modules except the root.
        offload: "cpu" keeps the shards in host memory.
        forward_methods: Methods other than `forward` that use the parameters of a sharded module, such as a head's
            `loss`.

    Raises:
        ArgumentError: A key, dtype, style or method is unknown, a class or pattern matches no module, two groups share
            a weight, the mesh does not match the number of processes, or the model cannot be split according to
            `tensor_parallel`.
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
    with at_key("tensor_parallel"), located(tensor_parallel):
        layer_size, plan = parse_tensor_parallel(tensor_parallel)
        styles = select_layers(module, layer_size, plan)
    if offload not in (None, "cpu"):
        raise ArgumentError("offload must be 'cpu' or None", key="offload", found=offload, suggestion="cpu")
    if not is_distributed():
        return module
    from torch.distributed import fsdp

    shard_mesh, layer_mesh = _device_meshes(next(module.parameters()).device.type, mesh, layer_size)
    settings: dict[str, Any] = {
        "mesh": shard_mesh,
        "mp_policy": fsdp.MixedPrecisionPolicy(**precision),
        "reshard_after_forward": reshard_after_forward,
    }
    if offload:
        settings["offload_policy"] = fsdp.CPUOffloadPolicy(pin_memory=torch.accelerator.is_available())
    initialize_from_main(module)
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # channels-last weights cannot be sharded
    with at_key("tensor_parallel"):
        split_layers(module, styles, layer_mesh)
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


def _device_meshes(device: str, mesh: Sequence[int] | None, tensor_parallel: int) -> tuple[Any, Any]:
    """Returns the mesh for sharding and replication, and the tensor-parallel mesh (None without tensor parallelism).

    All ranks must call this function.
    """
    from torch.distributed.device_mesh import init_device_mesh

    world = get_world_size()
    sizes = {"shard": world // tensor_parallel} if mesh is None else {"replicate": mesh[0], "shard": mesh[1]}
    if math.prod(sizes.values()) * tensor_parallel != world:
        mismatch = f"tensor_parallel={tensor_parallel} does not match the number of processes, {world}"
        if mesh is None:
            notes = ["tensor_parallel must divide the number of processes."]
            raise ArgumentError(mismatch, key="tensor_parallel", found=tensor_parallel, notes=notes)
        notes = ["Replicas times shards times tensor_parallel must equal the number of processes."]
        raise ArgumentError(f"mesh={mesh} with {mismatch}", key="mesh", found=mesh, notes=notes)
    names = tuple(sizes)
    if tensor_parallel == 1:
        return init_device_mesh(device, tuple(sizes.values()), mesh_dim_names=names), None
    all_ranks = init_device_mesh(device, (*sizes.values(), tensor_parallel), mesh_dim_names=(*names, "layer"))
    return all_ranks[names], all_ranks["layer"]


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


def parse_tensor_parallel(value: Any) -> tuple[int, Mapping[str, str] | None]:
    """Parses `tensor_parallel`, a number or a dict, and returns the size and the plan. None means a size of 1.

    Raises:
        ArgumentError: A key, a number or a style is invalid.
    """
    cfg = value if isinstance(value, Mapping) else {"size": 1 if value is None else value}
    check_keys("tensor_parallel", cfg, ("size", "plan"))
    plan = cfg.get("plan")
    if plan is not None and (not isinstance(plan, Mapping) or not plan):
        raise ArgumentError("plan must be a non-empty dict that maps module patterns to styles", key="plan", found=plan)
    return check_count("size", cfg.get("size")), plan


def select_layers(model: nn.Module, size: int, plan: Mapping[str, str] | None) -> dict[str, str]:
    """Selects the modules to split. Returns a dict of split styles, keyed by module name.

    Args:
        model: The model.
        size: The number of processes that layers are split across.
        plan: Maps patterns of module names to styles. None uses the `_tp_plan` of the outermost modules with this
            attribute, which transformers sets from the `base_model_tp_plan` in its configs.

    Raises:
        ArgumentError: There is no plan, a style is unknown, a pattern matches no module, or a number of features is not
            divisible by the number of processes.
    """
    if size == 1 and plan is None:
        return {}
    modules = dict(model.named_modules())
    styles: dict[str, str] = {}
    for pattern, style in (_own_plan(modules) if plan is None else plan).items():
        key = f"plan.{pattern}"
        check_choice(f"the style of '{pattern}'", style, _STYLES, key=key)
        parts = pattern.split(".")
        same_depth = [name for name in modules if name.count(".") == pattern.count(".")]
        names = [name for name in same_depth if all(map(fnmatchcase, name.split("."), parts))]
        if not names and plan is not None:
            raise ArgumentError(
                f"no module in the model matches '{pattern}'",
                key=key,
                found=pattern,
                suggestion=nearest(pattern, modules),
                notes=["A pattern must match a module's full name; '*' matches any characters except dots."],
            )
        features = _SPLIT_FEATURES.get(style, "")
        for name in names:
            count = getattr(modules[name], features, 0)
            if count % size:
                message = (
                    f"{features} of '{name}' is {count}, but must be divisible by the tensor_parallel size, {size}"
                )
                raise ArgumentError(message, key=key)
        styles |= dict.fromkeys(names, style)
    return styles


def _own_plan(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    roots: tuple[str, ...] = ()
    plan: dict[str, str] = {}
    for name, module in modules.items():
        prefix = f"{name}." if name else ""
        module_plan = getattr(module, "_tp_plan", None)
        if module_plan and not prefix.startswith(roots):
            roots = (*roots, prefix)
            plan |= {prefix + pattern: style for pattern, style in module_plan.items()}
    if not plan:
        example = "plan={'blocks.*.fc1': 'colwise', 'blocks.*.fc2': 'rowwise'}"
        raise ArgumentError(
            "the model has no plan for tensor parallelism",
            key="plan",
            notes=[f"Set `tensor_parallel=dict(size=..., {example})`."],
        )
    return plan


def split_layers(model: nn.Module, styles: Mapping[str, str], mesh: Any) -> None:
    """Splits layers across the ranks of a mesh. The weights must be the same on all ranks.

    Args:
        model: The model.
        styles: The result of `select_layers`.
        mesh: The one-dimensional device mesh, or None to leave the model unsplit.

    Raises:
        ArgumentError: The plan splits a weight differently for two layers that share it.
    """
    if mesh is None:
        return
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor import parallel as tp

    whole = Replicate()
    build: dict[str, Callable[[nn.Module], Any]] = {
        "colwise": lambda layer: tp.ColwiseParallel(),
        "colwise_gather_output": lambda layer: tp.ColwiseParallel(output_layouts=whole),
        "rowwise": lambda layer: tp.RowwiseParallel(input_layouts=whole if isinstance(layer, nn.Embedding) else None),
        "embedding_rowwise": lambda layer: tp.RowwiseParallel(input_layouts=whole),
        # The input is split in dim 2: the heads of (N, L, heads, C), or the features of (N, L, C).
        "replicated_with_grad_allreduce": lambda layer: tp.SequenceParallel(sequence_dim=2, use_local_output=True),
    }
    uses: dict[int, list[tuple[nn.Module, str, str]]] = {}  # by parameter: its modules, with attribute and full name
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            uses.setdefault(id(parameter), []).append((module, name, f"{prefix}.{name}"))
    plan: dict[str, Any] = {name: build[style](model.get_submodule(name)) for name, style in styles.items()}
    try:
        tp.parallelize_module(model, mesh, plan, src_data_rank=None)
    except NotImplementedError as error:  # a style does not support this type of layer
        raise ArgumentError(str(error), key="plan", found=dict(styles)) from error
    for owners in uses.values():
        tensors = [getattr(owner, name) for owner, name, _ in owners]
        if len({getattr(tensor, "placements", None) for tensor in tensors}) > 1:
            raise ArgumentError(
                "the plan must apply the same split to all layers that share a weight: "
                + ", ".join(label for *_, label in owners),
                key="plan",
            )
        for owner, name, _ in owners[1:]:
            setattr(owner, name, tensors[0])
    set_tensor_parallel_size(mesh.size())
    # Loading and saving gather these weights in two steps. torch warns about this once per rank.
    logging.getLogger("torch.distributed.tensor").setLevel(logging.ERROR)
