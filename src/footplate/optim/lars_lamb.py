"""LARS and LAMB: optimizers for large batches that scale the step of each layer by its trust ratio."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from footplate.distributed.sharding import is_dtensor, tensor_norms
from footplate.errors import ArgumentError
from footplate.registry import OPTIMIZERS


class LayerwiseOptimizer(Optimizer):
    """An optimizer that steps all parameters of a group at once. Parameters without gradients are skipped."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Runs one optimization step.

        Args:
            closure: An optional function that recomputes and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [each for each in group["params"] if each.grad is not None]
            if params:
                self._step_group(group, params, [each.grad for each in params])
        return loss

    def _adam_states(self, params: list[Tensor], first_step: Callable[[], Any]) -> list[dict[str, Any]]:
        """Returns the states of parameters, including Adam's moments. `first_step` creates the initial value of
        `step`."""
        for each in params:
            if not self.state[each]:
                moments = {"exp_avg": torch.zeros_like(each), "exp_avg_sq": torch.zeros_like(each)}
                self.state[each].update(step=first_step(), **moments)
        return [self.state[each] for each in params]

    @abstractmethod
    def _step_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Updates the parameters of one group in place."""


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the 2-norms of `tensors` as a tensor ``(N,)`` on their device.

    For a sharded tensor, this is the norm of the full tensor.
    """
    if any(is_dtensor(each) for each in tensors):
        return tensor_norms(tensors)
    return torch.stack(torch._foreach_norm(list(tensors)))


def scale_each(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiplies each tensor in place by its entry in the tensor `factors` ``(N,)``, without a copy to the host."""
    for tensor, factor in zip(tensors, factors.unbind(), strict=True):
        tensor.mul_(factor)


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
        trust_clip: The upper limit of the trust ratio `|w| / |u|`. By default, there is no limit.

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
        states = self._adam_states(params, int)
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
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        weight_norms, update_norms = norms_of(params), norms_of(updates)
        ratios = torch.where((weight_norms > 0) & (update_norms > 0), weight_norms / update_norms, 1.0)
        if group["trust_clip"] is not None:
            ratios = ratios.clamp(max=group["trust_clip"])
        scale_each(updates, ratios)
        torch._foreach_mul_(updates, group["lr"])
        torch._foreach_sub_(params, updates)


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
            weights, norms = norms_of(params), norms_of(grads)
            ratios = group["eta"] * weights / (norms + decay * weights + group["eps"])
            scale_each(steps, torch.where((weights > 0) & (norms > 0), ratios, 1.0))
        torch._foreach_mul_(steps, group["lr"])
        momentum = group["momentum"]
        if momentum:
            for each, step in zip(params, steps, strict=True):
                if "momentum_buffer" not in self.state[each]:
                    self.state[each]["momentum_buffer"] = torch.zeros_like(step)
            buffers = [self.state[each]["momentum_buffer"] for each in params]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, steps, alpha=1 - group["dampening"])
            steps = list(torch._foreach_add(steps, buffers, alpha=momentum)) if group["nesterov"] else buffers
        torch._foreach_sub_(params, steps)
