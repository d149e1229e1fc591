"""A model with a layer that overflows in one training iteration, for runs that are replayed."""

from typing import Any

import torch
from torch import Tensor, nn

from footplate.models import BaseModel
from footplate.registry import MODELS


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
class BurstingModel(BaseModel):
    """Four layers with dropout; the third, `layers.3`, overflows."""

    def __init__(self, at: int = 7, way: str = "forward") -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), Burst(at, way), nn.Linear(8, 2))

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        scores = self.layers(inputs)
        if mode == "loss":
            return {"loss": nn.functional.cross_entropy(scores, labels)}
        return list(zip(scores.argmax(1), labels, strict=True)) if mode == "predict" else scores
