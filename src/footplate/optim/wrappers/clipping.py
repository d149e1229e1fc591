"""Gradient clipping by norm or by value."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from footplate.checks import check_flag
from footplate.distributed.sharding import is_dtensor, local_tensor, tensor_norms
from footplate.error_context import origin_of
from footplate.errors import ArgumentError, NonFiniteError
from footplate.messages import nearest

_SMALL = 1e-6  # what torch adds to the norm
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
        self._judged = -1
        self._in_parts = self._alike = False

    def __call__(self, params: list[Tensor]) -> Tensor | None:
        """Clips."""
        gradients = [gradient for each in params if (gradient := each.grad) is not None]
        if len(gradients) != self._judged:
            self._judge(gradients)
        if self._in_parts or self._alike:
            return self._clip(gradients)
        norm: Tensor | None = self._function(params, **self._settings)
        return norm

    def _judge(self, gradients: list[Tensor]) -> None:
        """Finds out what kind of gradients there are: as a rule it is the same at each step."""
        if any(each.is_sparse for each in gradients):
            raise ArgumentError("clip_grad does not support sparse gradients", key="optim_wrapper.clip_grad")
        if not self.gives_norm and any(each.is_complex() for each in gradients):
            raise ArgumentError(
                "clip_grad by value does not support complex gradients",
                key="optim_wrapper.clip_grad.type",
                notes=["Clip them by norm: clip_grad=dict(max_norm=...)."],
            )
        self._judged = len(gradients)
        self._in_parts = any(map(is_dtensor, gradients))
        kinds = {(each.device, each.dtype) for each in gradients}
        self._alike = self.gives_norm and len(kinds) == 1 and self._settings.get("foreach") is not False

    @torch.no_grad()
    def _clip(self, gradients: list[Tensor]) -> Tensor | None:
        """Clips gradients of one kind, or ones in parts on several processes, which tell each other their norms.

        The result is torch's to the last bit. Torch sorts the gradients by kind, twice, and multiplies by 1 where they
        are within the bound.
        """
        held = [local_tensor(each) for each in gradients] if self._in_parts else gradients
        if not self.gives_norm:
            limit = self._settings["clip_value"]
            torch._foreach_clamp_min_(held, -limit)
            torch._foreach_clamp_max_(held, limit)
            return None
        order = self._settings.get("norm_type", 2.0)
        norms = tensor_norms(gradients, order) if self._in_parts else torch.stack(torch._foreach_norm(held, order))
        total: Tensor = torch.linalg.vector_norm(norms, order)
        if self._settings.get("error_if_nonfinite") and not bool(total.isfinite()):
            raise NonFiniteError("the norm of the gradients is not finite, and clip_grad has error_if_nonfinite")
        factor = (self._settings["max_norm"] / (total + _SMALL)).clamp(max=1.0)
        if not at_hand(factor) or factor != 1:
            torch._foreach_mul_(held, factor)
        return total


def at_hand(tensor: Tensor) -> bool:
    """Checks whether a tensor can be read at once; one on an accelerator would be waited for."""
    return tensor.device.type == "cpu"


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
    if isinstance(settings[first], bool) or not isinstance(settings[first], (int, float)) or not settings[first] > 0:
        _refuse(f'"{first}" must be a number above 0', cfg, first)
    for key in ("error_if_nonfinite", "foreach"):
        if settings.get(key) is not None:
            check_flag(key, settings[key], key=f"clip_grad.{key}")
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
