"""LARS, a variant of SGD for large batches that scales each layer's step by a trust ratio."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from footplate.distributed.sharding import tensor_norms
from footplate.errors import ArgumentError
from footplate.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LARS(Optimizer):
    """Implements LARS (layer-wise adaptive rate scaling).

    The learning rate of a layer is `rate = lr * eta * |w| / (|g| + weight_decay * |w| + eps)`, or `lr` if `|w|` or
    `|g|` is 0, or if the group sets `lars_exclude=True`. The update `rate * (g + weight_decay * w)` is added to the
    momentum buffer.

    Source: Large Batch Training of Convolutional Networks (You, Gitman, Ginsburg, 2017), algorithm 1.

    Args:
        params: Parameters or parameter groups. A group may set `lars_exclude`.
        lr: The global learning rate.
        momentum: The momentum factor.
        weight_decay: The weight decay (L2 penalty).
        dampening: The dampening for momentum.
        eta: The trust coefficient.
        nesterov: Whether to use Nesterov momentum.
        eps: A term added to the denominator for numerical stability.
        lars_exclude: Whether to use `lr` without adapting it to each layer.

    Raises:
        ArgumentError: `nesterov` is set without momentum or with dampening.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
        eta: float = 0.001,
        nesterov: bool = False,
        eps: float = 1e-8,
        *,
        lars_exclude: bool = False,
    ) -> None:
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("nesterov needs a momentum above 0 and a dampening of 0", key="nesterov", found=True)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "weight_decay": weight_decay,
                "dampening": dampening,
                "eta": eta,
                "nesterov": nesterov,
                "eps": eps,
                "lars_exclude": lars_exclude,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Performs one optimization step. Returns the loss from `closure`, or None without a closure."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            decay = group["weight_decay"]
            momentum = group["momentum"]
            grads = [param.grad for param in params]
            steps = [torch.add(grad, param, alpha=decay) for grad, param in zip(grads, params, strict=True)]
            if not group["lars_exclude"]:
                weights = tensor_norms(params)
                norms = tensor_norms(grads)
                ratios = group["eta"] * weights / (norms + decay * weights + group["eps"])
                ratios = torch.where((weights > 0) & (norms > 0), ratios, 1.0)
                for step, ratio in zip(steps, ratios.unbind(), strict=True):  # no copy to the host
                    step.mul_(ratio)
            for param, step in zip(params, steps, strict=True):
                step.mul_(group["lr"])
                if momentum:
                    state = self.state[param]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.zeros_like(step)
                    buffer = state["momentum_buffer"]
                    buffer.mul_(momentum).add_(step, alpha=1 - group["dampening"])
                    step = step.add(buffer, alpha=momentum) if group["nesterov"] else buffer  # noqa: PLW2901
                param.sub_(step)
        return loss
