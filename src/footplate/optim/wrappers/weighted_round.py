"""Gradients of means over the weighted losses of an accumulation round, on all ranks."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from footplate.distributed import get_world_size
from footplate.distributed.sharding import local_tensor
from footplate.weighted import Weighted, without_nan


class WeightedRound:
    """Scales the losses of an accumulation round, so that its gradient is that of their mean by weight.

    The weights of later losses, and those of other ranks, are unknown when a loss is scaled. Each loss is therefore
    multiplied by its weight divided by a unit, which is the same for the whole round and on all ranks, and `finish`
    multiplies the gradients by the unit divided by the mean weight of the ranks. The unit is an estimate of the round's
    weight, so that scaled losses have the magnitude of the mean, as mixed precision needs.
    """

    def __init__(self) -> None:
        self._unit: Tensor | None = None  # None if the round has no losses yet
        self._weight: Tensor | None = None  # the sum of the weights on this rank
        self._is_complete = False  # whether the unit is already the weight of the round

    def scale(self, loss: Weighted, losses_in_round: int) -> Tensor:
        """Returns the loss to minimize. If it is the only one of its round, on a single process, returns its value.

        All ranks must call this function.
        """
        value = without_nan(loss.value, loss.weight)
        if losses_in_round == 1 and get_world_size() == 1 and self._unit is None:
            return value
        dtype = torch.float32 if value.is_mps else torch.float64
        weight = torch.as_tensor(loss.weight, dtype=dtype, device=value.device).detach().reshape(())
        if self._unit is None or self._weight is None:
            unit = _mean_over_ranks(weight) * losses_in_round
            self._unit, self._weight = torch.where(unit > 0, unit, 1), torch.zeros_like(weight)
            self._is_complete = losses_in_round == 1
        self._weight = self._weight + weight
        return value * (weight / self._unit).to(value.dtype)

    @torch.no_grad()
    def finish(self, parameters: Sequence[Tensor]) -> None:
        """Ends the round before the optimizer steps, and rescales the gradients if the round has weighted losses.

        All ranks must call this function.
        """
        unit, weight, is_complete = self._unit, self._weight, self._is_complete
        self.discard()
        if unit is None or weight is None or is_complete:
            return
        mean = _mean_over_ranks(weight)
        factor = torch.where(mean > 0, unit / mean, 1)
        gradients = [local_tensor(each.grad) for each in parameters if each.grad is not None]
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.device, gradient.dtype))

    def discard(self) -> None:
        """Forgets the losses of the round, whose gradients have been cleared."""
        self._unit = self._weight = None

    def state(self) -> list[float]:
        """Returns the unit and this rank's weight, or an empty list if the round has no weighted losses."""
        return [] if self._unit is None or self._weight is None else [self._unit.item(), self._weight.item()]

    def restore(self, state: Sequence[float], device: torch.device) -> None:
        """Restores a state with a unit and the mean weight of the ranks."""
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._unit, self._weight = torch.tensor(list(state), dtype=dtype, device=device)
        self._is_complete = False


def _mean_over_ranks(value: Tensor) -> Tensor:
    world_size = get_world_size()
    if world_size == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / world_size
