"""Gradient clipping by norm or by value."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from footplate.errors import ArgumentError, nearest, origin_of

_KEYS = {
    "norm": ("max_norm", "norm_type", "error_if_nonfinite", "foreach"),
    "value": ("clip_value", "foreach"),
}


class Clip:
    """Clips the gradients of parameters in place and returns their total norm from before, where it is known.

    Args:
        function: One of torch's.
        settings: Its arguments.

    Attributes:
        gives_norm: Whether the norm is known; a norm tells of gradients that are not finite, values clipped do not.
    """

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        self._function, self._settings = function, settings
        self.gives_norm = function is clip_grad_norm_

    def __call__(self, params: list[Tensor]) -> Tensor | None:
        """Clips."""
        norm: Tensor | None = self._function(params, **self._settings)
        return norm


def make_clip(cfg: Mapping[str, Any]) -> Clip:
    """Returns what clips as `clip_grad=dict(...)` says.

    Args:
        cfg: `type`, "norm" (the default) or "value", and the arguments of torch's `clip_grad_norm_` or
            `clip_grad_value_`.

    Raises:
        ArgumentError: The type, a key or the norm's type is unknown.
    """
    kind, settings = _checked(cfg)
    return Clip(clip_grad_value_ if kind == "value" else clip_grad_norm_, settings)


def _checked(cfg: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(cfg, Mapping):
        raise ArgumentError("clip_grad must be a dict", key="clip_grad", found=cfg)
    settings = dict(cfg)
    kind = settings.pop("type", "norm")
    if kind not in _KEYS:
        _refuse('the type of gradient clipping is "norm" or "value"', cfg, "type")
    for key in settings:
        if key not in _KEYS[kind]:
            _refuse(f'gradient clipping by {kind} takes no "{key}"', cfg, key, nearest(key, _KEYS[kind]))
    first = _KEYS[kind][0]
    if first not in settings:
        raise ArgumentError(
            f'gradient clipping by {kind} needs "{first}"', key=f"clip_grad.{first}", origin=origin_of(cfg)
        )
    if not isinstance(settings[first], (int, float)) or settings[first] < 0:
        _refuse(f'"{first}" must be a number of at least 0', cfg, first)
    if "norm_type" in settings:
        settings["norm_type"] = _norm_type(cfg)
    return kind, settings


def _norm_type(cfg: Mapping[str, Any]) -> float:
    try:
        order = float(cfg["norm_type"])
    except (TypeError, ValueError):
        order = -1.0
    if not order > 0:
        _refuse('the norm of gradient clipping is a number above 0, or "inf"', cfg, "norm_type")
    return order


def _refuse(message: str, cfg: Mapping[str, Any], key: str, suggestion: str | None = None) -> None:
    raise ArgumentError(
        message, key=f"clip_grad.{key}", found=cfg[key], origin=origin_of(cfg, key), suggestion=suggestion
    )


def plain(norm: Tensor) -> Tensor:
    """Returns a norm as an ordinary detached tensor, also where the gradients are sharded."""
    norm = norm.detach()
    gather = getattr(norm, "full_tensor", None)
    return norm if gather is None else torch.as_tensor(gather())
