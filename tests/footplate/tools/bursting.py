"""A model with a layer that overflows in one training iteration, for runs that are replayed."""

import torch
from torch import Tensor, nn

from footplate.registry import MODELS
from tests.support import PointModel


class Burst(nn.Module):
    """Multiplies by 1e38 twice in the call `at` of training; the number of calls is state."""

    def __init__(self, at: int, way: str) -> None:
        super().__init__()
        self.at, self.way = at, way
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.calls: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            if int(self.calls) == self.at:
                if self.way == "forward":
                    return inputs * 1e38 * 1e38
                return inputs + torch.sqrt(inputs.sum() - inputs.sum().detach())  # finite, with infinite slope
        return inputs


@MODELS.register_module()
class BurstingModel(PointModel):
    """Four layers with dropout; the third, `layers.3`, overflows."""

    def __init__(self, at: int = 7, way: str = "forward") -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), Burst(at, way), nn.Linear(8, 2))
