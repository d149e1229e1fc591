"""Gradient clipping by norm or by value."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from footplate.checks import check_choice, check_flag, check_keys, is_number
from footplate.distributed.sharding import is_dtensor, local_tensor, tensor_norms
from footplate.error_context import at_key, located, origin_of
from footplate.errors import ArgumentError, NonFiniteError

_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_
CLIPPING_KEYS = {
    "norm": ("max_norm", "norm_type", "error_if_nonfinite", "foreach"),
    "value": ("clip_value", "foreach"),
}


class GradientClipper:
    """Clips gradients in place, by norm or by value.

    Args:
        function: `clip_grad_norm_` or `clip_grad_value_` from `torch.nn.utils`.
        settings: The arguments for `function`.

    Attributes:
        gives_norm: Whether a call returns the total norm before clipping. True only if `function` is `clip_grad_norm_`.
    """

    def __init__(self, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
        self._function, self._settings = function, settings
        self.gives_norm = function is clip_grad_norm_
        self._inspected_count = -1
        self._is_sharded = self._is_uniform = False

    @torch.no_grad()
    def __call__(self, params: list[Tensor]) -> Tensor | None:
        """Clips the gradients of `params` and returns their norm before clipping, or None if it was not computed.

        The result is bit-identical to that of torch. If all gradients have the same device and dtype, this is faster:
        torch groups the gradients by device and dtype twice, and multiplies by 1 if the norm is within the limit.
        """
        gradients = [gradient for each in params if (gradient := each.grad) is not None]
        if len(gradients) != self._inspected_count:  # the kind of gradients rarely changes between steps
            self._inspect(gradients)
        if not self._is_sharded and not self._is_uniform:
            norm: Tensor | None = self._function(params, **self._settings)
            return norm
        local = [local_tensor(each) for each in gradients] if self._is_sharded else gradients
        if not self.gives_norm:
            limit = self._settings["clip_value"]
            torch._foreach_clamp_min_(local, -limit)
            torch._foreach_clamp_max_(local, limit)
            return None
        order = self._settings.get("norm_type", 2.0)
        norms = tensor_norms(gradients, order) if self._is_sharded else torch.stack(torch._foreach_norm(local, order))
        total: Tensor = torch.linalg.vector_norm(norms, order)
        if self._settings.get("error_if_nonfinite") and not bool(total.isfinite()):
            raise NonFiniteError("the gradient norm is non-finite, and clip_grad sets error_if_nonfinite")
        factor = (self._settings["max_norm"] / (total + _EPS)).clamp(max=1.0)
        if not is_on_cpu(factor) or factor != 1:
            torch._foreach_mul_(local, factor)
        return total

    def _inspect(self, gradients: list[Tensor]) -> None:
        """Checks that the gradients are supported, and records whether they are sharded and can be clipped together."""
        if any(each.is_sparse for each in gradients):
            raise ArgumentError("clip_grad does not support sparse gradients", key="optim_wrapper.clip_grad")
        if not self.gives_norm and any(each.is_complex() for each in gradients):
            raise ArgumentError(
                "clipping by value does not support complex gradients",
                key="optim_wrapper.clip_grad.type",
                notes=["Clip them by norm: clip_grad=dict(max_norm=...)."],
            )
        self._inspected_count = len(gradients)
        self._is_sharded = any(map(is_dtensor, gradients))
        kinds = {(each.device, each.dtype) for each in gradients}
        self._is_uniform = self.gives_norm and len(kinds) == 1 and self._settings.get("foreach") is not False


def is_on_cpu(tensor: Tensor) -> bool:
    """Checks whether the value of a tensor can be read without waiting for an accelerator."""
    return tensor.device.type == "cpu"


def build_clipper(cfg: Mapping[str, Any]) -> GradientClipper:
    """Builds the gradient clipper for `clip_grad=dict(...)`.

    Args:
        cfg: `type`, "norm" (the default) or "value", and the arguments for `clip_grad_norm_` or `clip_grad_value_`.

    Raises:
        ArgumentError: A key or the type is unknown, or a value is out of range.
    """
    if not isinstance(cfg, Mapping):
        raise ArgumentError("clip_grad must be a dict", key="clip_grad", found=cfg)
    with at_key("clip_grad"), located(cfg):
        settings = dict(cfg)
        kind = check_choice("type", settings.pop("type", "norm"), CLIPPING_KEYS)
        check_keys(f"gradient clipping by {kind}", settings, CLIPPING_KEYS[kind], prefix="")
        first = CLIPPING_KEYS[kind][0]
        if first not in settings:
            raise ArgumentError(
                f'gradient clipping by {kind} needs the argument "{first}"', key=first, origin=origin_of(cfg)
            )
        if not is_number(settings[first]) or not settings[first] > 0:
            raise ArgumentError(f'"{first}" must be a number above 0', key=first, found=settings[first])
        for key in ("error_if_nonfinite", "foreach"):
            if settings.get(key) is not None:
                check_flag(key, settings[key])
        if "norm_type" in settings:
            order = math.inf if settings["norm_type"] == "inf" else settings["norm_type"]
            if not is_number(order) or not order > 0:
                raise ArgumentError('"norm_type" must be a number above 0, or "inf"', key="norm_type", found=order)
            settings["norm_type"] = float(order)
    return GradientClipper(clip_grad_value_ if kind == "value" else clip_grad_norm_, settings)
