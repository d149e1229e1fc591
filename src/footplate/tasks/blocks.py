"""Blocks of which the small networks of several tasks are made."""

import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Sequential):
    """Convolution, batch normalisation, ReLU.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the result.
        size: Of the kernel, odd.
        stride: Step of the kernel.
    """

    def __init__(self, in_channels: int, channels: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two convolutions around which the input also passes.

    Args:
        channels: Of input and result.

    Source: He et al., "Deep Residual Learning", arXiv:1512.03385.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = Convolution(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns features of the input's shape, ``(N, C, H, W)``."""
        return F.relu(inputs + self.norm(self.second(self.first(inputs))))
