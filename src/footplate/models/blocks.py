"""Convolutional blocks of the small built-in networks."""

import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Sequential):
    """A convolution followed by batch normalization and ReLU.

    Args:
        in_channels: The number of input channels.
        channels: The number of output channels.
        size: The kernel size, an odd number.
        stride: The stride of the convolution.
    """

    def __init__(self, in_channels: int, channels: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """A residual block of two convolutions.

    The shortcut is a third convolution if the input and the output differ in shape, or else the identity.

    Args:
        in_channels: The number of input channels.
        channels: The number of output channels; by default `in_channels`.
        stride: The stride of the first convolution.

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
    """

    def __init__(self, in_channels: int, channels: int | None = None, *, stride: int = 1) -> None:
        super().__init__()
        channels = channels if channels is not None else in_channels
        self.first = Convolution(in_channels, channels, stride=stride)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if in_channels != channels or stride != 1:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps features ``(N, in_channels, H, W)`` to ``(N, channels, H / stride, W / stride)``."""
        return F.relu(self.shortcut(inputs) + self.norm(self.second(self.first(inputs))))
