"""Gradients that travel between processes in fewer bits, by PyTorch's own hooks."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from footplate.error_context import origin_of
from footplate.errors import ArgumentError
from footplate.messages import nearest

_KEY = "gradient_compression"
_PLAIN = {"fp16": "fp16_compress_hook", "bf16": "bf16_compress_hook"}
_NAMES = (*_PLAIN, "powerSGD", "batched_powerSGD")


def compress_gradients(model: DistributedDataParallel, cfg: "str | Mapping[str, Any]") -> None:
    """Has the gradients of a data-parallel model travel compressed.

    Source: PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization (Vogels et al., 2019), for
    the hooks of that name.

    Args:
        model: The model.
        cfg: "fp16", "bf16", "powerSGD" or "batched_powerSGD", or a dict with this as its `type` and the arguments of
            torch's PowerSGDState.

    Raises:
        ArgumentError: There is no such hook, or it does not take an argument.
    """
    settings = dict(cfg) if isinstance(cfg, Mapping) else {"type": cfg}
    kind = settings.pop("type", None)
    if kind not in _NAMES:
        names = ", ".join(_NAMES)
        raise ArgumentError(
            f"gradients are compressed by one of {names}",
            key=_KEY,
            found=kind,
            suggestion=nearest(str(kind), _NAMES),
            origin=origin_of(cfg, "type"),
        )
    state, hook = _plain(kind, settings) if kind in _PLAIN else _power_sgd(kind, settings)
    try:
        model.register_comm_hook(state, hook)
    except TypeError as error:  # of hooks that the processes' connection does not serve
        raise ArgumentError(f"gradients cannot be compressed by {kind} here: {error}", key=_KEY, found=kind) from error


def _plain(kind: str, settings: dict[str, Any]) -> tuple[Any, Callable[..., Any]]:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    _check(kind, settings, ())
    hook: Callable[..., Any] = getattr(default_hooks, _PLAIN[kind])
    return None, hook


def _power_sgd(kind: str, settings: dict[str, Any]) -> tuple[Any, Callable[..., Any]]:
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

    taken = list(inspect.signature(powerSGD_hook.PowerSGDState).parameters)
    _check(kind, settings, [name for name in taken if name != "process_group"])
    try:
        state = powerSGD_hook.PowerSGDState(process_group=None, **settings)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"gradient compression by {kind}: {error}", key=_KEY) from error
    return state, powerSGD_hook.powerSGD_hook if kind == "powerSGD" else powerSGD_hook.batched_powerSGD_hook


def _check(kind: str, settings: Mapping[str, Any], taken: Any) -> None:
    for name in settings:
        if name not in taken:
            raise ArgumentError(
                f"gradient compression by {kind} takes no '{name}'",
                key=f"{_KEY}.{name}",
                found=settings[name],
                suggestion=nearest(name, taken),
            )
