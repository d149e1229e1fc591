"""A small encoder-decoder that thinks at half the picture's resolution and answers at full resolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import ArgumentError


class EncoderDecoder(nn.Module):
    """Residual encoder, decoder with lateral connections, sub-pixel head.

    Each 2 x 2 pixels become one position with four times the channels, so that no convolution runs at full
    resolution; the head's channels are laid out as 2 x 2 pixels again, so that outlines stay sharp.

    Args:
        num_classes: Channels of the result.
        widths: Channels of the stages; each has half the resolution of the one before, the first half the picture's.
        depths: Residual blocks of each stage.

    Raises:
        ArgumentError: `widths` and `depths` differ in number.

    Source: Ronneberger, Fischer, Brox, "U-Net", arXiv:1505.04597; Lin et al., "Feature Pyramid Networks",
        arXiv:1612.03144; Shi et al., "Sub-Pixel Convolutional Neural Network", arXiv:1609.05158.
    """

    def __init__(
        self, num_classes: int, *, widths: Sequence[int] = (32, 64, 128, 192), depths: Sequence[int] = (1, 1, 2, 2)
    ) -> None:
        super().__init__()
        if len(widths) != len(depths):
            raise ArgumentError("every stage has a width and a depth", key="depths", found=(widths, depths))
        self.stem = _Convolution(3 * 4, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Residual(width) for _ in range(depth)))
            for width, depth in zip(widths, depths, strict=True)
        )
        steps = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(_Convolution(fine, coarse, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(_Convolution(coarse, fine, size=1) for fine, coarse in reversed(steps))
        self.lateral = nn.ModuleList(_Convolution(fine, fine, size=1) for fine, _ in reversed(steps))
        self.merge = nn.ModuleList(_Convolution(fine, fine) for fine, _ in reversed(steps))
        self.head = nn.Conv2d(widths[0], 4 * num_classes, 1)
        self.stride = 2 ** len(widths)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns scores ``(N, num_classes, H, W)`` for pictures ``(N, 3, H, W)``, which may have any size."""
        height, width = inputs.shape[-2:]
        inputs = F.pad(inputs, (0, -width % self.stride, 0, -height % self.stride))
        features = self.stem(F.pixel_unshuffle(inputs, 2))
        fine: list[Tensor] = []
        for stage, down in zip(self.stages, self.down, strict=False):
            fine.append(stage(features))
            features = down(fine[-1])
        features = self.stages[-1](features)
        for up, lateral, merge, skipped in zip(self.up, self.lateral, self.merge, reversed(fine), strict=True):
            enlarged = F.interpolate(up(features), scale_factor=2, mode="nearest")
            features = merge(enlarged + lateral(skipped))
        return F.pixel_shuffle(self.head(features), 2)[..., :height, :width]


class _Convolution(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, channels: int, *, size: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, channels, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    """Two convolutions around which the input also passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _Convolution(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.relu(inputs + self.norm(self.second(self.first(inputs))))
