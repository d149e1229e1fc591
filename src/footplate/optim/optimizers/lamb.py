"""LAMB: Adam with a rate of its own for each layer."""

from typing import Any

import torch
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.optim.optimizers.trust import LayerwiseOptimizer, norms_of, scale_each
from footplate.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LAMB(LayerwiseOptimizer):
    """Layer-wise adaptive moments for large batches.

    The update of a layer is `u = m / (sqrt(v) + eps) + weight_decay * w` with Adam's bias-corrected moments; it moves
    by `lr * |w| / |u| * u`, plainly by `lr * u` where `|w|` or `|u|` is 0.

    Source: Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes (You et al., 2020), algorithm 2.

    Args:
        params: Parameters or groups.
        lr: The learning rate.
        betas: How much of the first and second moment is kept.
        eps: Keeps the update finite.
        weight_decay: The decoupled weight decay.
        bias_correction: Make up for moments that begin at 0.
        trust_clip: The most that a layer's rate may be multiplied by; None for no limit.

    Raises:
        ArgumentError: An argument is out of its range.
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
                raise ArgumentError(f'"{name}" of LAMB is at least 0', key=name, found=value)
        if not all(0 <= beta < 1 for beta in betas):
            raise ArgumentError("betas lie between 0 and 1", key="betas", found=betas)
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
        updates = self._adam(group, params, grads)
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        weights, lengths = norms_of(params), norms_of(updates)
        trust = torch.where((weights > 0) & (lengths > 0), weights / lengths, 1.0)
        if group["trust_clip"] is not None:
            trust = trust.clamp(max=group["trust_clip"])
        scale_each(updates, trust)
        torch._foreach_mul_(updates, group["lr"])
        torch._foreach_sub_(params, updates)

    def _adam(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """Moves the moments and returns the updates of Adam."""
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
            # The step is a number on the host, so that nothing is read back from the device.
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
