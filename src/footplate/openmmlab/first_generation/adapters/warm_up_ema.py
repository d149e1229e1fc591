"""The averaged model that first-generation EMA hooks use."""

from typing import Any

import torch
from torch import nn

from footplate.checks import check_count
from footplate.models import ExponentialMovingAverage
from footplate.registry import MODELS


@MODELS.register_module()
class WarmUpEMA(ExponentialMovingAverage):
    """An exponential moving average with a warm-up, as in the first-generation EMA hook.

    After `steps` updates, the weight of new values is `min(momentum ** interval, (1 + steps) / (warm_up + steps))`.

    Args:
        model: The model to average. Its initial values are the initial averages.
        momentum: The weight of new values after the warm-up, for an interval of 1.
        warm_up: The warm-up constant. With larger values, the weight grows more slowly.
        settings: Arguments for `BaseAveragedModel`.

    Raises:
        ArgumentError: `warm_up` or `momentum` is out of range.
    """

    def __init__(self, model: nn.Module, momentum: float = 0.0002, warm_up: int = 100, **settings: Any) -> None:
        super().__init__(model, momentum, **settings)
        self.warm_up = check_count("warm_up", warm_up)

    def weight(self, steps: int) -> float:
        """Returns the weight of new values, which grows during the warm-up."""
        return min(self.momentum**self.interval, (1 + steps) / (self.warm_up + steps))

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Updates the averages with the weights of `model`. The first update also averages instead of copying."""
        self._update(model)
        self.count += 1
