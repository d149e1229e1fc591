"""Trust ratios: how far a layer may move, by the norm of its weights and of its update."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from footplate.distributed.sharding import is_dtensor, tensor_norms


class LayerwiseOptimizer(Optimizer):
    """An optimizer that steps the parameters of a group that have gradients together."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step; `closure`, if given, computes the loss again and returns it."""
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
        """Moves parameters of one group by their gradients."""


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the 2-norms of `tensors`, `(N,)` on their device; of the whole tensors where these are sharded."""
    if any(is_dtensor(each) for each in tensors):
        return tensor_norms(tensors)
    return torch.stack(torch._foreach_norm(list(tensors)))


def scale_each(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiplies each tensor in place by its entry of `factors`, `(N,)`, without a copy to the host."""
    for tensor, factor in zip(tensors, factors.unbind(), strict=True):
        tensor.mul_(factor)
