"""The feature pyramid of the small segmentation and detection networks."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.models import Convolution, Residual


class Pyramid(nn.Module):
    """A residual encoder, and a decoder with lateral connections for its deepest levels.

    The stem folds each 2 x 2 pixels into channels, so that no convolution runs at full resolution.

    Args:
        widths: The channels of each stage. The first stage has half the resolution of the image, and each further
            stage half that of the previous one.
        depths: The number of residual blocks of each stage.
        levels: How many of the deepest stages to decode; all by default.

    Raises:
        ArgumentError: `widths` and `depths` differ in length, or have fewer than two entries.

    Attributes:
        stride: The stride of the deepest stage, in pixels.

    Source: Ronneberger, Fischer, Brox, "U-Net", arXiv:1505.04597; Lin et al., "Feature Pyramid Networks",
        arXiv:1612.03144.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], *, levels: int | None = None) -> None:
        super().__init__()
        if len(widths) != len(depths) or len(widths) < 2:
            raise ArgumentError(
                "widths and depths must have the same length, at least 2", key="depths", found=(widths, depths)
            )
        steps = list(zip(widths, widths[1:], strict=False))
        decoded = steps[::-1] if levels is None else steps[::-1][: levels - 1]
        self.stem = Convolution(3 * 4, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Residual(width) for _ in range(depth))) for width, depth in zip(widths, depths, strict=True)
        )
        self.down = nn.ModuleList(Convolution(fine, coarse, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(Convolution(coarse, fine, size=1) for fine, coarse in decoded)
        self.lateral = nn.ModuleList(Convolution(fine, fine, size=1) for fine, _ in decoded)
        self.merge = nn.ModuleList(Convolution(fine, fine) for fine, _ in decoded)
        self.stride = 2 ** len(widths)

    def decode(self, inputs: Tensor) -> list[Tensor]:
        """Returns the features of each level, ``(N, width, h, w)``, the deepest first.

        Args:
            inputs: ``(N, 3, H, W)``, of any size. They are padded at the bottom and right to a multiple of the stride.
        """
        height, width = inputs.shape[-2:]
        inputs = F.pad(inputs, (0, -width % self.stride, 0, -height % self.stride))
        features = self.stem(F.pixel_unshuffle(inputs, 2))
        encoded: list[Tensor] = [self.stages[0](features)]
        for down, stage in zip(self.down, list(self.stages)[1:], strict=True):
            encoded.append(stage(down(encoded[-1])))
        decoded: list[Tensor] = [encoded[-1]]
        for up, lateral, merge, finer in zip(self.up, self.lateral, self.merge, encoded[-2::-1], strict=False):
            enlarged = F.interpolate(up(decoded[-1]), scale_factor=2, mode="nearest")
            decoded.append(merge(enlarged + lateral(finer)))
        return decoded
