"""Sharded models: the configuration of FSDP2, and operations on tensors that may be sharded (DTensor).

A DTensor is recognized by its attributes, because importing the class is slow.
"""

import functools
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate.checks import check_count, check_flag, check_keys
from footplate.distributed.collectives import get_world_size, is_distributed
from footplate.distributed.tensor_parallel import parse_tensor_parallel, select_layers, split_layers
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.module_selection import select_modules
from footplate.registry import MODEL_WRAPPERS

_logger = logging.getLogger("footplate.distributed")
_PRECISION_KEYS = ("param_dtype", "reduce_dtype", "output_dtype", "cast_forward_inputs")
_DTYPES = ("float16", "bfloat16", "float32", "float64")


def is_dtensor(tensor: Tensor) -> bool:
    """Checks whether `tensor` is a DTensor."""
    return hasattr(tensor, "device_mesh")


def is_sharded(model: nn.Module) -> bool:
    """Checks whether `fully_shard` was applied to `model`."""
    return hasattr(model, "set_requires_gradient_sync")


def is_split_layer(tensor: Tensor) -> bool:
    """Checks whether tensor parallelism splits `tensor`, so that each process of a group has a different part."""
    if not is_dtensor(tensor):
        return False
    names = tensor.device_mesh.mesh_dim_names or ()  # type: ignore[attr-defined]
    return "layer" in names and tensor.placements[names.index("layer")].is_shard()  # type: ignore[attr-defined]


def local_tensor(tensor: Tensor) -> Tensor:
    """Returns the local shard of a DTensor, sharing its memory. Other tensors are returned unchanged."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else torch.as_tensor(to_local())


def full_tensor(tensor: Tensor) -> Tensor:
    """Gathers a DTensor. Every rank of its mesh must call this. Other tensors are returned unchanged."""
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

    Every rank must call this. If `value` is not sharded, it must be the same on all ranks. A value of a different shape
    is returned unchanged.
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

    sharded: Tensor = distribute_tensor(value.to(mesh.device_type), mesh, placements, src_data_rank=None)
    return sharded


def tensor_norms(tensors: Iterable[Tensor], order: float = 2.0) -> Tensor:
    """Returns the norm of each full tensor, shape `(N,)`, with one all-reduce per sharded mesh dimension."""
    tensors = list(tensors)
    local = [local_tensor(each) for each in tensors]
    # A rank may have an empty shard, which has no infinity norm.
    norms = torch.stack(torch._foreach_norm([each if each.numel() else each.new_zeros(1) for each in local], order))
    is_maximum = order == float("inf")
    powers = norms if is_maximum else norms**order
    # The mesh of each DTensor and the dimensions in which its ranks hold shards rather than replicas.
    layouts: list[tuple[Any, tuple[int, ...]] | None] = [None] * len(tensors)
    for place, each in enumerate(tensors):
        if is_dtensor(each):
            placements = each.placements  # type: ignore[attr-defined]
            sharded = tuple(at for at, placement in enumerate(placements) if not placement.is_replicate())
            layouts[place] = each.device_mesh, sharded  # type: ignore[attr-defined]
    for layout in dict.fromkeys(each for each in layouts if each is not None):
        reduced = powers.clone()
        mesh, dimensions = layout
        for dimension in dimensions:
            operation = dist.ReduceOp.MAX if is_maximum else dist.ReduceOp.SUM
            dist.all_reduce(reduced, operation, group=mesh.get_group(dimension))
        has_layout = torch.tensor([each is not None and each == layout for each in layouts], device=powers.device)
        powers = torch.where(has_layout, reduced, powers)
    return powers if is_maximum else powers ** (1 / order)


@functools.lru_cache(maxsize=1)
def world_mesh(device: str, group: object) -> Any:
    """Returns a mesh of all ranks. It is cached, because creating it may open connections between all ranks."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (get_world_size(),))


def new_cpu_group() -> Any:
    """Creates a gloo group of all ranks. Every rank must call this. Returns None if there is no process group."""
    return dist.new_group(backend="gloo") if is_distributed() else None


def initialize_from_main(model: nn.Module) -> None:
    """Initializes the weights of an unsharded model, and copies parameters and buffers from rank 0 to all ranks."""
    if hasattr(model, "init_weights"):
        model.init_weights()  # type: ignore[operator]
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()) if is_distributed() else ():
            value = tensor.detach().contiguous()
            dist.broadcast(value, src=0)
            tensor.copy_(value)


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

    Each module that `shard` selects forms a communication group. The remaining parameters form another group. Weights
    are initialized before sharding, so that they do not depend on the number of ranks.

    Source: PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel (Zhao et al., 2023).

    Args:
        module: The unsharded model, on its device. With one process, it is returned unchanged.
        shard: A dict with `classes`, class names of modules, and `names`, regular expressions that must match full
            module names.
        mesh: `(replicas, shards)`. The product must be the number of processes. The weights are sharded within groups
            of `shards` processes with consecutive ranks, and each group holds a replica. By default, all processes form
            one group.
        tensor_parallel: The number of processes with consecutive ranks that share each layer, or a dict with this
            number as `size` and a `plan` that maps patterns of module names to "colwise" or "rowwise". By default, the
            model's own plan is used. These processes train on the same batches. With a `mesh`, the product of all three
            numbers must be the number of processes.
        mixed_precision: A dict with `param_dtype`, `reduce_dtype` and `output_dtype` as dtype names, and
            `cast_forward_inputs`.
        reshard_after_forward: Whether to free the full parameters after the forward pass. A number reshards to that
            many ranks. None means True for all modules except the root.
        offload: "cpu" keeps the shards in host memory.
        forward_methods: Methods other than `forward` that use the parameters of a sharded module, such as `loss` of a
            head.

    Raises:
        ArgumentError: A key, class, dtype, policy or method is unknown, a class or pattern matches nothing, a weight
            belongs to several groups, the mesh does not match the number of processes, or the model cannot be split as
            `tensor_parallel` requires.
    """
    _check_mesh(mesh)
    with at_key("shard"), located(shard):
        modules = {name: each for name, each in module.named_modules() if name and any(True for _ in each.parameters())}
        chosen = select_modules(modules, shard or {})
        _check_shared_weights(module, chosen)
    with located(forward_methods):
        _check_methods(forward_methods, [*chosen.values(), module])
    with at_key("mixed_precision"), located(mixed_precision):
        precision = _precision(mixed_precision or {})
    with at_key("tensor_parallel"), located(tensor_parallel):
        split = parse_tensor_parallel(tensor_parallel)
        styles = select_layers(module, split)
    if offload not in (None, "cpu"):
        raise ArgumentError("offload must be 'cpu' or None", key="offload", found=offload, suggestion="cpu")
    if not is_distributed():
        return module
    settings, layer_mesh = _fully_shard_arguments(
        module, precision, offload, reshard_after_forward, mesh, tensor_parallel=split.size
    )
    initialize_from_main(module)
    strided = [each for each in module.parameters() if not each.is_contiguous()]  # these cannot be sharded
    for parameter in strided:
        parameter.data = parameter.data.contiguous()
    if strided:
        _logger.info("FullyShard does not support channels_last. Weights made contiguous: %d.", len(strided))
    with at_key("tensor_parallel"):
        split_layers(module, styles, layer_mesh)
    from torch.distributed import fsdp

    for each in (*chosen.values(), module):
        fsdp.fully_shard(each, **settings)
        for name in forward_methods:
            if hasattr(each, name):
                fsdp.register_fsdp_forward_method(each, name)

    def reshard_without_gradients(root: nn.Module, *_: Any) -> None:
        """Reshards the root module if no backward pass will do so, for example after validation."""
        if not torch.is_grad_enabled():
            root.reshard()  # type: ignore[operator]

    module.register_forward_hook(reshard_without_gradients)
    return module


def _check_shared_weights(model: nn.Module, chosen: Mapping[str, nn.Module]) -> None:
    """Checks that no weight belongs to two of the groups into which `chosen` divides the model."""
    names = {id(each): f"'{name}'" for name, each in chosen.items()}
    groups: dict[int, str] = {}

    def visit(module: nn.Module, path: str, group: str) -> None:
        group = names.get(id(module), group)
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if groups.setdefault(id(parameter), group) != group:
                raise ArgumentError(
                    f"{groups[id(parameter)]} and {group} share the weight '{path}{name}', so they cannot be sharded "
                    "separately",
                    notes=["Select a module that contains both, or neither of them."],
                )
        for name, child in module.named_children():
            visit(child, f"{path}{name}.", group)

    visit(model, "", "the rest of the model")


def _check_methods(names: Any, modules: Sequence[nn.Module]) -> None:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ArgumentError("forward_methods must be a list of names", key="forward_methods", found=names)
    for name in names:
        if not isinstance(name, str) or not any(inspect.ismethod(getattr(each, name, None)) for each in modules):
            raise ArgumentError("no sharded module has this method", key="forward_methods", found=name)


def _check_mesh(mesh: Any) -> None:
    if mesh is not None and not (isinstance(mesh, (list, tuple)) and len(mesh) == 2):
        raise ArgumentError("mesh must be two numbers: (replicas, shards)", key="mesh", found=mesh)
    for number in mesh or ():
        check_count("each number of mesh", number, key="mesh")


def _fully_shard_arguments(
    module: nn.Module,
    precision: Mapping[str, Any],
    offload: str | None,
    reshard: bool | int | None,
    mesh: Sequence[int] | None,
    *,
    tensor_parallel: int,
) -> tuple[dict[str, Any], Any]:
    """Returns the arguments for `fully_shard`, and the mesh of the ranks that share layers, if any.

    Every rank must call this.
    """
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    world = get_world_size()
    if world % tensor_parallel:
        message = f"tensor_parallel must divide the number of processes, {world}"
        raise ArgumentError(message, key="tensor_parallel", found=tensor_parallel)
    batches = world // tensor_parallel
    if mesh is not None and mesh[0] * mesh[1] != batches:
        raise ArgumentError(
            f"a mesh of {mesh[0]} x {mesh[1]} does not fit {world} processes"
            + (f" with tensor_parallel={tensor_parallel}" if tensor_parallel > 1 else ""),
            key="mesh",
            found=tuple(mesh),
            notes=["The number of replicas times the number of shards must be the number of processes."]
            if tensor_parallel == 1
            else ["Replicas times shards times tensor_parallel must be the number of processes."],
        )
    shards = batches if mesh is None else mesh[1]
    is_divisor = isinstance(reshard, int) and 1 < reshard < shards and shards % reshard == 0
    if reshard is not None and not isinstance(reshard, bool) and not is_divisor:
        raise ArgumentError(
            "reshard_after_forward must be True, False, None, or a divisor of the number of shards other than 1 and "
            "itself",
            key="reshard_after_forward",
            found=reshard,
            notes=[f"there are {shards} shards"],
        )
    sizes = {"shard": batches} if mesh is None else {"replicate": mesh[0], "shard": mesh[1]}
    sharding = tuple(sizes)
    if tensor_parallel > 1:
        sizes["layer"] = tensor_parallel
    device = next(module.parameters()).device.type
    all_ranks = init_device_mesh(device, tuple(sizes.values()), mesh_dim_names=tuple(sizes))
    settings: dict[str, Any] = {
        "mp_policy": fsdp.MixedPrecisionPolicy(**precision),
        "mesh": all_ranks[sharding] if tensor_parallel > 1 else all_ranks,
        "reshard_after_forward": reshard,
    }
    if offload:
        settings["offload_policy"] = fsdp.CPUOffloadPolicy(pin_memory=torch.accelerator.is_available())
    return settings, all_ranks["layer"] if tensor_parallel > 1 else None


def _precision(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Converts the value of `mixed_precision` to arguments for PyTorch's MixedPrecisionPolicy."""
    check_keys("mixed_precision", cfg, _PRECISION_KEYS, prefix="")
    found: dict[str, Any] = {}
    for key, value in cfg.items():
        if not key.endswith("dtype"):
            found[key] = check_flag(key, value)
        elif value is None or isinstance(value, torch.dtype):
            found[key] = value
        else:
            name = str(value).removeprefix("torch.")
            if name not in _DTYPES:
                message = f"{key} must be one of {', '.join(_DTYPES)}"
                raise ArgumentError(message, key=key, found=value, suggestion=nearest(name, _DTYPES))
            found[key] = getattr(torch, name)
    return found
