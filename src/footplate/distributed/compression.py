"""Gradient compression with PyTorch's communication hooks."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from footplate.checks import check_choice
from footplate.errors import ArgumentError
from footplate.messages import nearest

_KEY = "gradient_compression"
_CAST_HOOKS = {"fp16": "fp16_compress_hook", "bf16": "bf16_compress_hook"}
_NAMES = (*_CAST_HOOKS, "powerSGD", "batched_powerSGD")


def compress_gradients(model: DistributedDataParallel, cfg: "str | Mapping[str, Any]") -> None:
    """Registers a communication hook that compresses gradients.

    Source: PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization (Vogels et al., 2019).

    Args:
        model: The model.
        cfg: "fp16", "bf16", "powerSGD" or "batched_powerSGD", or a dict with this as `type` and arguments of torch's
            PowerSGDState.

    Raises:
        ArgumentError: The hook or an argument is unknown, or the backend does not support the hook.
    """
    settings = dict(cfg) if isinstance(cfg, Mapping) else {"type": cfg}
    kind = check_choice("gradient_compression", settings.pop("type", None), _NAMES, key=_KEY)
    state, hook = _cast_hook(kind, settings) if kind in _CAST_HOOKS else _power_sgd_hook(kind, settings)
    try:
        model.register_comm_hook(state, hook)
    except TypeError as error:  # the backend does not support the hook
        raise ArgumentError(
            f"gradient compression with {kind} is not available: {error}", key=_KEY, found=kind
        ) from error


def _cast_hook(kind: str, settings: dict[str, Any]) -> tuple[Any, Callable[..., Any]]:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    _check_arguments(kind, settings, ())
    hook: Callable[..., Any] = getattr(default_hooks, _CAST_HOOKS[kind])
    return None, hook


def _power_sgd_hook(kind: str, settings: dict[str, Any]) -> tuple[Any, Callable[..., Any]]:
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

    taken = list(inspect.signature(powerSGD_hook.PowerSGDState).parameters)
    _check_arguments(kind, settings, [name for name in taken if name != "process_group"])
    try:
        state = powerSGD_hook.PowerSGDState(process_group=None, **settings)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"gradient compression with {kind} is not valid: {error}", key=_KEY) from error
    return state, powerSGD_hook.powerSGD_hook if kind == "powerSGD" else powerSGD_hook.batched_powerSGD_hook


def _check_arguments(kind: str, settings: Mapping[str, Any], taken: Any) -> None:
    for name in settings:
        if name not in taken:
            raise ArgumentError(
                f"gradient compression with {kind} has no argument '{name}'",
                key=f"{_KEY}.{name}",
                found=settings[name],
                suggestion=nearest(name, taken),
            )
