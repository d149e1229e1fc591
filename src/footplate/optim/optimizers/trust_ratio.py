"""The base class and helpers of optimizers with layer-wise trust ratios, LARS and LAMB."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from footplate.distributed.sharding import is_dtensor, tensor_norms


class LayerwiseOptimizer(Optimizer):
    """An optimizer that steps all parameters of a group at once; parameters without gradients are skipped."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Runs one optimization step.

        Args:
            closure: Recomputes and returns the loss, if given.
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

    @abstractmethod
    def _step_group(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Updates the parameters of one group in place."""


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the 2-norms of `tensors`, ``(N,)`` on their device; of sharded tensors, those of the full tensors."""
    if any(is_dtensor(each) for each in tensors):
        return tensor_norms(tensors)
    return torch.stack(torch._foreach_norm(list(tensors)))


def scale_each(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiplies each tensor in place by its entry of `factors`, ``(N,)``, without a copy to the host."""
    for tensor, factor in zip(tensors, factors.unbind(), strict=True):
        tensor.mul_(factor)
