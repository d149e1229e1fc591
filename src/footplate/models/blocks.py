"""Blocks of which the small networks of the house are made."""

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
    """Two convolutions around which the input also passes, through a third one where the result has another form.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the result; by default those of the input.
        stride: Step of the first convolution.

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
        """Returns features ``(N, channels, H / stride, W / stride)`` for ``(N, in_channels, H, W)``."""
        return F.relu(self.shortcut(inputs) + self.norm(self.second(self.first(inputs))))
