"""Defines residual networks for small images, which train in minutes on a CPU."""

from collections.abc import Sequence
from itertools import pairwise

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


class Pyramid(nn.Module):
    """A residual encoder, followed by a decoder with lateral connections for the deepest levels.

    The first convolution has a stride of 2, so that no other layer runs at full resolution.

    Args:
        widths: The number of channels of each stage. The first stage has half the resolution of the image; each
            subsequent stage has half the resolution of the previous one.
        depths: The number of residual blocks of each stage.
        levels: The number of stages to decode, counted from the deepest one; all by default.

    Attributes:
        stride: The stride of the deepest stage, in pixels.

    Source: Ronneberger, Fischer, Brox, "U-Net", arXiv:1505.04597; Lin et al., "Feature Pyramid Networks",
        arXiv:1612.03144.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], *, levels: int | None = None) -> None:
        super().__init__()
        steps = list(pairwise(widths))
        decoded = steps[::-1][: (levels or len(widths)) - 1]
        self.stem = Convolution(3, widths[0], size=6, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width) for _ in range(depth))) for width, depth in zip(widths, depths, strict=True)
        )
        self.down = nn.ModuleList(Convolution(fine, coarse, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(Convolution(coarse, fine, size=1) for fine, coarse in decoded)
        self.lateral = nn.ModuleList(Convolution(fine, fine, size=1) for fine, _ in decoded)
        self.merge = nn.ModuleList(Convolution(fine, fine) for fine, _ in decoded)
        self.stride = 2 ** len(widths)

    def pad(self, inputs: Tensor) -> Tensor:
        """Pads images of shape ``(N, 3, H, W)`` at the bottom and on the right to multiples of the stride."""
        height, width = inputs.shape[-2:]
        return F.pad(inputs, (0, -width % self.stride, 0, -height % self.stride))

    def decode(self, inputs: Tensor) -> list[Tensor]:
        """Returns the features of each level, of shape ``(N, width, h, w)``, deepest first.

        Pads the inputs, which are images of shape ``(N, 3, H, W)`` of any size; see `pad`.
        """
        encoded: list[Tensor] = [self.stages[0](self.stem(self.pad(inputs)))]
        for down, stage in zip(self.down, list(self.stages)[1:], strict=True):
            encoded.append(stage(down(encoded[-1])))
        decoded: list[Tensor] = [encoded[-1]]
        for up, lateral, merge, finer in zip(self.up, self.lateral, self.merge, encoded[-2::-1], strict=False):
            enlarged = F.interpolate(up(decoded[-1]), scale_factor=2, mode="nearest")
            decoded.append(merge(enlarged + lateral(finer)))
        return decoded
