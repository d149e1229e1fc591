"""The first-generation EMA hook, and its averaged model."""

import logging
from typing import Any

import torch
from torch import nn

from footplate import hooks
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


class EMAHook(hooks.EMAHook):
    """The EMA hook that scripts import from mmcv. Its average is a `WarmUpEMA`.

    Args:
        momentum: See WarmUpEMA.
        interval: The number of iterations between updates.
        warm_up: See WarmUpEMA.
        resume_from: Ignored, with a warning; the averages are restored when the run resumes.
    """

    def __init__(
        self, momentum: float = 0.0002, interval: int = 1, warm_up: int = 100, resume_from: Any = None
    ) -> None:
        if resume_from:
            logging.getLogger("footplate").warning(
                "EMAHook ignores resume_from. Call runner.resume('%s') instead.", resume_from
            )
        super().__init__("WarmUpEMA", momentum=momentum, interval=interval, warm_up=warm_up)
