"""Defines a residual network for small images, which trains in minutes on a CPU."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.models.base_module import BaseModule, InitCfg
from footplate.registry import MODELS


class Convolution(nn.Sequential):
    """A convolution followed by batch normalization and ReLU.

    Args:
        in_channels: The number of input channels.
        channels: The number of output channels.
        size: The kernel size.
        stride: The stride of the convolution.
    """

    def __init__(self, in_channels: int, channels: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, size, stride, (size - 1) // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """A residual block of two convolutions.

    The shortcut is a third convolution if the input and the output differ in shape; otherwise, it is the identity.

    Args:
        in_channels: The number of input channels.
        channels: The number of output channels; by default `in_channels`.
        stride: The stride of the first convolution.

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
    """

    def __init__(self, in_channels: int, channels: int | None = None, *, stride: int = 1) -> None:
        super().__init__()
        channels = channels or in_channels
        self.first = Convolution(in_channels, channels, stride=stride)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if in_channels != channels or stride != 1:
            self.shortcut.extend([nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)])

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps features of shape ``(N, in_channels, H, W)`` to shape ``(N, channels, H / stride, W / stride)``."""
        return F.relu(self.shortcut(inputs) + self.norm(self.second(self.first(inputs))))


@MODELS.register_module()
class SmallResNet(BaseModule):
    """A backbone with one convolution followed by several stages of residual blocks.

    Each stage after the first one halves the resolution.

    Args:
        in_channels: The number of image channels.
        widths: The number of channels in each stage.
        depths: The number of residual blocks in each stage.
        stem_stride: The stride of the first convolution.
        init_cfg: See `BaseModule`.

    Raises:
        ArgumentError: `widths` and `depths` differ in length, or are empty.

    Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385.

    Example:
        >>> import torch
        >>> [tuple(output.shape) for output in SmallResNet(1, widths=(8, 16), depths=(1, 1))(torch.zeros(2, 1, 28, 28))]
        [(2, 8, 14, 14), (2, 16, 7, 7)]
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        widths: Sequence[int] = (32, 64, 128),
        depths: Sequence[int] = (1, 1, 1),
        stem_stride: int = 2,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(widths) != len(depths) or not widths:
            raise ArgumentError(
                "widths and depths must have the same length and must not be empty",
                key="depths",
                found=(widths, depths),
            )
        self.stem = Convolution(in_channels, widths[0], stride=stem_stride)
        in_widths = [widths[0], *widths]
        self.stages = nn.ModuleList(
            nn.Sequential(
                Residual(in_widths[number], width, stride=2 if number else 1),
                *(Residual(width) for _ in range(depth - 1)),
            )
            for number, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the feature maps of all stages.

        Args:
            inputs: Images ``(N, C, H, W)``.

        Returns:
            One tensor ``(N, width, H', W')`` per stage.
        """
        features = self.stem(inputs)
        outputs: list[Tensor] = []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return tuple(outputs)
