"""LAMB: Adam with layer-wise learning rates."""

from typing import Any

import torch
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.optim.optimizers.trust_ratio import LayerwiseOptimizer, norms_of, scale_each
from footplate.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LAMB(LayerwiseOptimizer):
    """Layer-wise adaptive moments for large batches.

    The update of a layer is `u = m / (sqrt(v) + eps) + weight_decay * w` with the bias-corrected moments of Adam.
    The step is `lr * |w| / |u| * u`, or `lr * u` if `|w|` or `|u|` is 0.

    Source: Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes (You et al., 2020), algorithm 2.

    Args:
        params: Parameters or parameter groups.
        lr: The learning rate.
        betas: The decay rates of the first and second moment.
        eps: A term that is added to the denominator for numerical stability.
        weight_decay: The decoupled weight decay.
        bias_correction: Whether to correct the bias of the moments, which start at 0.
        trust_clip: The upper limit of the trust ratio `|w| / |u|`; None for no limit.

    Raises:
        ArgumentError: An argument is out of range.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        bias_correction: bool = True,
        trust_clip: float | None = None,
    ) -> None:
        for name, value in {"lr": lr, "eps": eps, "weight_decay": weight_decay}.items():
            if value < 0:
                raise ArgumentError(f'"{name}" of LAMB must be at least 0', key=name, found=value)
        if not all(0 <= beta < 1 for beta in betas):
            raise ArgumentError('"betas" of LAMB must be at least 0 and below 1', key="betas", found=betas)
        settings = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
            "trust_clip": trust_clip,
        }
        super().__init__(params, settings)
        if any(each.is_complex() for group in self.param_groups for each in group["params"]):
            raise ArgumentError("LAMB does not support complex parameters", key="type")

    def _step_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        updates = self._adam_updates(group, params, grads)
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        weight_norms, update_norms = norms_of(params), norms_of(updates)
        ratios = torch.where((weight_norms > 0) & (update_norms > 0), weight_norms / update_norms, 1.0)
        if group["trust_clip"] is not None:
            ratios = ratios.clamp(max=group["trust_clip"])
        scale_each(updates, ratios)
        torch._foreach_mul_(updates, group["lr"])
        torch._foreach_sub_(params, updates)

    def _adam_updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """Updates the moments and returns the updates of Adam."""
        states = [self._state_of(each) for each in params]
        means = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        for state in states:
            state["step"] += 1
        first, second = group["betas"]
        torch._foreach_lerp_(means, grads, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, grads, grads, 1 - second)
        roots = torch._foreach_sqrt(squares)
        if group["bias_correction"]:
            # `step` is a number on the host, so that this does not wait for the device.
            torch._foreach_div_(roots, [(1 - second ** state["step"]) ** 0.5 for state in states])
        torch._foreach_add_(roots, group["eps"])
        updates = list(torch._foreach_div(means, roots))
        if group["bias_correction"]:
            torch._foreach_div_(updates, [1 - first ** state["step"] for state in states])
        return updates

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state
