"""FSDP2 by one section of a config."""

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
def FullyShard(  # noqa: N802 - configs and messages call it so
    module: nn.Module,
    *,
    shard: Mapping[str, Any] | None = None,
    mixed_precision: Mapping[str, Any] | None = None,
    reshard_after_forward: bool | int | None = None,
    offload: str | None = None,
    forward_methods: Sequence[str] = (),
) -> nn.Module:
    """Leaves each process a part of every parameter, gradient and optimizer state, by torch's `fully_shard`.

    The parameters of each module that `shard` names travel together, those of the rest together with the whole model.
    Weights are initialized before, so that they do not depend on the number of processes.

    Source: PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel (Zhao et al., 2023).

    Args:
        module: The model, on its device, whole on every process. That of one process alone stays as it is.
        shard: `classes`, names of classes of modules, and `names`, regular expressions for whole names of modules.
        mixed_precision: `param_dtype`, `reduce_dtype`, `output_dtype` as names of dtypes, `cast_forward_inputs`.
        reshard_after_forward: Whether whole parameters are dropped behind a forward pass; a number drops to so many
            processes; None does for all but the outermost.
        offload: "cpu" keeps parts in host memory.
        forward_methods: Methods of the sharded modules that compute as `forward` does, such as a head's `loss`.

    Raises:
        ArgumentError: A key, class, dtype or policy is unknown, or a class or pattern matches nothing.
    """
    chosen, precision = list(_chosen(module, shard or {})), _precision(mixed_precision or {})
    offloads = _checked_offload(offload)
    if not is_distributed():
        return module
    settings = _settings(module, precision, offloads, reshard_after_forward)
    initialize: Any = getattr(module, "init_weights", None)
    if initialize is not None:
        initialize()
    broadcast_values(module)
    _lay_out_plainly(module)
    for each in (*chosen, module):
        _shard(each, settings, forward_methods)
    module.register_forward_hook(_fold_without_gradients)
    return module


def _settings(module: nn.Module, precision: Mapping[str, Any], offloads: bool, reshard: Any) -> dict[str, Any]:
    """Returns what torch's `fully_shard` is told of every module; all processes call this."""
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


def _lay_out_plainly(module: nn.Module) -> None:
    """Lays out weights in the order of their dimensions, since no others can be cut."""
    others = [each for each in module.parameters() if not each.is_contiguous()]
    for each in others:
        each.data = each.data.contiguous()
    if others:
        _logger.info("channels_last does not go with FullyShard: %d weights are laid out plainly", len(others))


def _fold_without_gradients(module: nn.Module, *_: Any) -> None:
    """Has the outermost module hold its parts again where no backward pass will see to that, as after a validation."""
    if not torch.is_grad_enabled():
        module.reshard()  # type: ignore[operator]


def _chosen(model: nn.Module, shard: Mapping[str, Any]) -> Iterator[nn.Module]:
    """Yields the modules that `shard` names, inner ones first."""
    for key in shard:
        if key not in _SHARD_KEYS:
            raise _refused("what to shard is said by 'classes' and 'names'", shard, key, nearest(key, _SHARD_KEYS))
    modules = {name: each for name, each in model.named_modules() if name and _holds_parameters(each)}
    matched: set[str] = set()
    for kind in _words(shard, "classes"):
        names = {name for name, each in modules.items() if type(each).__name__ == kind}
        if not names:
            near = nearest(kind, {type(each).__name__ for each in modules.values()})
            raise _refused(f"the model has no module of class '{kind}'", shard, "classes", near)
        matched |= names
    for pattern in _words(shard, "names"):
        names = {name for name in modules if _pattern(shard, pattern).fullmatch(name)}
        if not names:
            raise _refused(f"no module name matches '{pattern}'", shard, "names", nearest(pattern, modules))
        matched |= names
    for name in reversed(modules):
        if name in matched:
            if isinstance(modules[name], (nn.ModuleList, nn.ModuleDict)):
                kind = type(modules[name]).__name__
                raise _refused(f"'{name}' is a {kind}, which computes nothing: name what is in it", shard, "names")
            yield modules[name]


def _holds_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _words(shard: Mapping[str, Any], key: str) -> list[str]:
    value = shard.get(key) or []
    words = [value] if isinstance(value, (str, type)) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(each, (str, type)) for each in words):
        raise _refused(f"'{key}' is a list of names", shard, key)
    return [each.__name__ if isinstance(each, type) else each for each in words]


def _pattern(shard: Mapping[str, Any], text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except re.error as error:
        raise _refused(f"'{text}' is no regular expression: {error}", shard, "names") from error


def _precision(cfg: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in cfg.items():
        if key not in _PRECISION_KEYS:
            near = nearest(key, _PRECISION_KEYS)
            raise _refused(f"mixed_precision has no '{key}'", cfg, key, near, section="mixed_precision")
        found[key] = _dtype(cfg, key) if key.endswith("dtype") else bool(value)
    return found


def _dtype(cfg: Mapping[str, Any], key: str) -> torch.dtype | None:
    value = cfg[key]
    if value is None or isinstance(value, torch.dtype):
        return value
    name = str(value).removeprefix("torch.")
    if name not in _DTYPES:
        near = nearest(name, _DTYPES)
        raise _refused(f"a dtype is one of {', '.join(_DTYPES)}", cfg, key, near, section="mixed_precision")
    found: torch.dtype = _DTYPES[name]
    return found


def _checked_offload(offload: Any) -> bool:
    if offload not in (None, "cpu"):
        raise ArgumentError("offload is 'cpu' or None", key="offload", found=offload, suggestion="cpu")
    return offload is not None


def _checked_reshard(policy: Any) -> bool | int | None:
    world = get_world_size()
    if policy is None or isinstance(policy, bool):
        return policy
    if not isinstance(policy, int) or not 1 < policy < world or world % policy:
        raise ArgumentError(
            "reshard_after_forward is True, False, None, or a number of processes that divides theirs",
            key="reshard_after_forward",
            found=policy,
            notes=[f"there are {world} processes"],
        )
    return policy


def _refused(
    message: str, cfg: Mapping[str, Any], key: str, near: str | None = None, *, section: str = "shard"
) -> ArgumentError:
    return ArgumentError(
        message, key=f"{section}.{key}", found=cfg.get(key), suggestion=near, origin=origin_of(cfg, key)
    )
