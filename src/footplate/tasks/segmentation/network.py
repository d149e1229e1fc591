"""A small encoder-decoder that works at half the picture's resolution and answers at full resolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.tasks.blocks import Convolution, Residual


class EncoderDecoder(nn.Module):
    """Residual encoder, decoder with lateral connections, a coarse and a fine head whose scores add up.

    What a thing is shows in the deep features, where it ends in the fine ones. So the coarse head says what is there,
    and the fine head corrects it pixel by pixel. Each 2 x 2 pixels become one position with four times the channels,
    so that no convolution runs at full resolution; the fine head's channels are laid out as 2 x 2 pixels again.

    Args:
        num_classes: Channels of the result.
        widths: Channels of the stages; each has half the resolution of the one before, the first half the picture's.
        depths: Residual blocks of each stage.

    Raises:
        ArgumentError: `widths` and `depths` differ in number, or there are fewer than two.

    Source: Ronneberger, Fischer, Brox, "U-Net", arXiv:1505.04597; Lin et al., "Feature Pyramid Networks",
        arXiv:1612.03144; Shi et al., "Sub-Pixel Convolutional Neural Network", arXiv:1609.05158.
    """

    def __init__(
        self, num_classes: int, *, widths: Sequence[int] = (32, 64, 128, 192), depths: Sequence[int] = (1, 1, 2, 2)
    ) -> None:
        super().__init__()
        if len(widths) != len(depths) or len(widths) < 2:
            raise ArgumentError(
                "two stages or more, each with a width and a depth", key="depths", found=(widths, depths)
            )
        self.stem = Convolution(3 * 4, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width) for _ in range(depth))) for width, depth in zip(widths, depths, strict=True)
        )
        steps = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(Convolution(fine, coarse, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(Convolution(coarse, fine, size=1) for fine, coarse in reversed(steps))
        self.lateral = nn.ModuleList(Convolution(fine, fine, size=1) for fine, _ in reversed(steps))
        self.merge = nn.ModuleList(Convolution(fine, fine) for fine, _ in reversed(steps))
        self.coarse_head = nn.Conv2d(widths[-2], num_classes, 1)
        self.fine_head = nn.Conv2d(widths[0], 4 * num_classes, 1)
        self.stride = 2 ** len(widths)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns scores ``(N, num_classes, H, W)`` for pictures ``(N, 3, H, W)``, which may have any size."""
        height, width = inputs.shape[-2:]
        inputs = F.pad(inputs, (0, -width % self.stride, 0, -height % self.stride))
        features = self.stem(F.pixel_unshuffle(inputs, 2))
        skipped: list[Tensor] = []
        for stage, down in zip(self.stages, self.down, strict=False):
            skipped.append(stage(features))
            features = down(skipped[-1])
        decoded: list[Tensor] = [self.stages[-1](features)]
        for up, lateral, merge, finer in zip(self.up, self.lateral, self.merge, reversed(skipped), strict=True):
            enlarged = F.interpolate(up(decoded[-1]), scale_factor=2, mode="nearest")
            decoded.append(merge(enlarged + lateral(finer)))
        coarse = self.coarse_head(decoded[1])
        fine = F.pixel_shuffle(self.fine_head(decoded[-1]), 2)
        full = fine + F.interpolate(coarse, list(fine.shape[-2:]), mode="bilinear")
        return full[..., :height, :width]
