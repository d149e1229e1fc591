"""LARS: SGD with momentum and layer-wise learning rates."""

from typing import Any

import torch
from torch import Tensor

from footplate.errors import ArgumentError
from footplate.optim.optimizers.trust_ratio import LayerwiseOptimizer, norms_of, scale_each
from footplate.registry import OPTIMIZERS


@OPTIMIZERS.register_module()
class LARS(LayerwiseOptimizer):
    """Layer-wise adaptive rate scaling.

    The learning rate of a layer is `lr * eta * |w| / (|g| + weight_decay * |w| + eps)`. It is `lr` if `|w|` or `|g|`
    is 0, and in groups with `lars_exclude=True`. The update `rate * (g + weight_decay * w)` is added to the momentum
    buffer.

    Source: Large Batch Training of Convolutional Networks (You, Gitman, Ginsburg, 2017), algorithm 1.

    Args:
        params: Parameters or parameter groups; a group may set `lars_exclude`.
        lr: The global learning rate.
        momentum: The momentum factor.
        weight_decay: The weight of the L2 penalty.
        dampening: The dampening of the momentum.
        eta: The trust coefficient.
        nesterov: Whether to use Nesterov momentum.
        eps: A term that is added to the denominator for numerical stability.
        lars_exclude: Whether to run plain SGD with momentum.

    Raises:
        ArgumentError: An argument is out of range.
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
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "dampening": dampening,
            "eta": eta,
            "eps": eps,
        }
        for name, value in settings.items():
            if value < 0 and name != "dampening":
                raise ArgumentError(f'"{name}" of LARS must be at least 0', key=name, found=value)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("nesterov needs a momentum above 0 and a dampening of 0", key="nesterov", found=True)
        super().__init__(params, {**settings, "nesterov": nesterov, "lars_exclude": lars_exclude})

    def _step_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        decay = group["weight_decay"]
        steps = list(torch._foreach_add(grads, params, alpha=decay) if decay else torch._foreach_mul(grads, 1.0))
        if not group["lars_exclude"]:
            scale_each(steps, _trust_ratios(norms_of(params), norms_of(grads), group))
        torch._foreach_mul_(steps, group["lr"])
        if group["momentum"]:
            steps = self._apply_momentum(group, params, steps)
        torch._foreach_sub_(params, steps)

    def _apply_momentum(self, group: dict[str, Any], params: list[Tensor], steps: list[Tensor]) -> list[Tensor]:
        """Updates the momentum buffers and returns the steps with momentum."""
        momentum = group["momentum"]
        buffers = []
        for each, step in zip(params, steps, strict=True):
            state = self.state[each]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(step)
            buffers.append(state["momentum_buffer"])
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, steps, alpha=1 - group["dampening"])
        return list(torch._foreach_add(steps, buffers, alpha=momentum)) if group["nesterov"] else buffers


def _trust_ratios(weights: Tensor, grads: Tensor, group: dict[str, Any]) -> Tensor:
    """Returns the trust ratio of each layer, ``(N,)``, for the norms of weights and gradients, ``(N,)`` each."""
    ratio = group["eta"] * weights / (grads + group["weight_decay"] * weights + group["eps"])
    return torch.where((weights > 0) & (grads > 0), ratio, 1.0)
