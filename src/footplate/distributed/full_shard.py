"""FullyShard, a model wrapper that configures FSDP2."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from footplate.distributed.collectives import get_world_size, is_distributed
from footplate.distributed.sharding import broadcast_values
from footplate.error_context import origin_of
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.registry import MODEL_WRAPPERS

_logger = logging.getLogger("footplate.distributed")
_SHARD_KEYS = ("classes", "names")
_PRECISION_KEYS = ("param_dtype", "reduce_dtype", "output_dtype", "cast_forward_inputs")
_DTYPES = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64")}


@MODEL_WRAPPERS.register_module()
def FullyShard(  # noqa: N802 - the name that configs use
    module: nn.Module,
    *,
    shard: Mapping[str, Any] | None = None,
    mixed_precision: Mapping[str, Any] | None = None,
    reshard_after_forward: bool | int | None = None,
    offload: str | None = None,
    forward_methods: Sequence[str] = (),
) -> nn.Module:
    """Shards parameters, gradients and optimizer states across ranks with torch's `fully_shard`.

    Each module selected by `shard` forms a communication group; the remaining parameters form one for the whole model.
    Weights are initialized before sharding, so that they do not depend on the number of ranks.

    Source: PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel (Zhao et al., 2023).

    Args:
        module: The unsharded model, on its device. With one process it is returned unchanged.
        shard: `classes`, class names of modules, and `names`, regular expressions that must match full module names.
        mixed_precision: `param_dtype`, `reduce_dtype` and `output_dtype` as dtype names, and `cast_forward_inputs`.
        reshard_after_forward: Whether to free the full parameters after the forward pass. A number reshards to that
            many ranks. None means True for all modules except the root.
        offload: "cpu" keeps the shards in host memory.
        forward_methods: Methods of sharded modules that use parameters like `forward`, such as `loss` of a head.

    Raises:
        ArgumentError: A key, class, dtype or policy is unknown, or a class or pattern matches nothing.
    """
    chosen, precision = list(_selected_modules(module, shard or {})), _precision(mixed_precision or {})
    offloads = _checked_offload(offload)
    if not is_distributed():
        return module
    settings = _fully_shard_arguments(module, precision, offloads, reshard_after_forward)
    initialize: Any = getattr(module, "init_weights", None)
    if initialize is not None:
        initialize()
    broadcast_values(module)
    _make_contiguous(module)
    for each in (*chosen, module):
        _shard(each, settings, forward_methods)
    module.register_forward_hook(_reshard_without_gradients)
    return module


def _fully_shard_arguments(
    module: nn.Module, precision: Mapping[str, Any], offloads: bool, reshard: Any
) -> dict[str, Any]:
    """Returns the arguments of `fully_shard` for every module. Every rank must call this."""
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    settings: dict[str, Any] = {"mp_policy": fsdp.MixedPrecisionPolicy(**precision)}
    if offloads:
        settings["offload_policy"] = fsdp.CPUOffloadPolicy(pin_memory=torch.accelerator.is_available())
    device = next(module.parameters()).device.type
    settings["mesh"] = init_device_mesh(device, (get_world_size(),))
    settings["reshard_after_forward"] = _checked_reshard(reshard)
    return settings


def _shard(module: nn.Module, settings: Mapping[str, Any], forward_methods: Sequence[str]) -> None:
    from torch.distributed import fsdp

    fsdp.fully_shard(module, **settings)
    for name in forward_methods:
        if hasattr(module, name):
            fsdp.register_fsdp_forward_method(module, name)


def _make_contiguous(module: nn.Module) -> None:
    """Converts weights to the contiguous memory format, because others cannot be sharded."""
    others = [each for each in module.parameters() if not each.is_contiguous()]
    for each in others:
        each.data = each.data.contiguous()
    if others:
        _logger.info("FullyShard does not support channels_last: made %d weights contiguous", len(others))


def _reshard_without_gradients(module: nn.Module, *_: Any) -> None:
    """Reshards the root module if no backward pass will do so, for example after validation."""
    if not torch.is_grad_enabled():
        module.reshard()  # type: ignore[operator]


def _selected_modules(model: nn.Module, shard: Mapping[str, Any]) -> Iterator[nn.Module]:
    """Yields the modules selected by `shard`, inner modules first."""
    for key in shard:
        if key not in _SHARD_KEYS:
            raise _config_error(
                "'shard' takes only the keys 'classes' and 'names'", shard, key, nearest(key, _SHARD_KEYS)
            )
    modules = {name: each for name, each in model.named_modules() if name and _holds_parameters(each)}
    matched: set[str] = set()
    for kind in _names_in(shard, "classes"):
        names = {name for name, each in modules.items() if type(each).__name__ == kind}
        if not names:
            near = nearest(kind, {type(each).__name__ for each in modules.values()})
            raise _config_error(f"the model has no module of class '{kind}'", shard, "classes", near)
        matched |= names
    for pattern in _names_in(shard, "names"):
        names = {name for name in modules if _compile(shard, pattern).fullmatch(name)}
        if not names:
            raise _config_error(f"no module name matches '{pattern}'", shard, "names", nearest(pattern, modules))
        matched |= names
    for name in reversed(modules):
        if name in matched:
            if isinstance(modules[name], (nn.ModuleList, nn.ModuleDict)):
                kind = type(modules[name]).__name__
                raise _config_error(
                    f"'{name}' is a {kind}, which has no forward(): select the modules in it", shard, "names"
                )
            yield modules[name]


def _holds_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _names_in(shard: Mapping[str, Any], key: str) -> list[str]:
    value = shard.get(key) or []
    names = [value] if isinstance(value, (str, type)) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(each, (str, type)) for each in names):
        raise _config_error(f"'{key}' must be a list of names", shard, key)
    return [each.__name__ if isinstance(each, type) else each for each in names]


def _compile(shard: Mapping[str, Any], text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except re.error as error:
        raise _config_error(f"'{text}' is not a valid regular expression: {error}", shard, "names") from error


def _precision(cfg: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in cfg.items():
        if key not in _PRECISION_KEYS:
            near = nearest(key, _PRECISION_KEYS)
            raise _config_error(f"mixed_precision has no key '{key}'", cfg, key, near, section="mixed_precision")
        found[key] = _dtype(cfg, key) if key.endswith("dtype") else bool(value)
    return found


def _dtype(cfg: Mapping[str, Any], key: str) -> torch.dtype | None:
    value = cfg[key]
    if value is None or isinstance(value, torch.dtype):
        return value
    name = str(value).removeprefix("torch.")
    if name not in _DTYPES:
        near = nearest(name, _DTYPES)
        raise _config_error(f"a dtype must be one of {', '.join(_DTYPES)}", cfg, key, near, section="mixed_precision")
    found: torch.dtype = _DTYPES[name]
    return found


def _checked_offload(offload: Any) -> bool:
    if offload not in (None, "cpu"):
        raise ArgumentError("offload must be 'cpu' or None", key="offload", found=offload, suggestion="cpu")
    return offload is not None


def _checked_reshard(policy: Any) -> bool | int | None:
    world = get_world_size()
    if policy is None or isinstance(policy, bool):
        return policy
    if not isinstance(policy, int) or not 1 < policy < world or world % policy:
        raise ArgumentError(
            "reshard_after_forward must be True, False, None, or a divisor of the number of processes",
            key="reshard_after_forward",
            found=policy,
            notes=[f"there are {world} processes"],
        )
    return policy


def _config_error(
    message: str, cfg: Mapping[str, Any], key: str, suggestion: str | None = None, *, section: str = "shard"
) -> ArgumentError:
    return ArgumentError(
        message, key=f"{section}.{key}", found=cfg.get(key), suggestion=suggestion, origin=origin_of(cfg, key)
    )
