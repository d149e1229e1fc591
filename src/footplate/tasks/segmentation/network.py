"""A small encoder-decoder that works at half the picture's resolution and answers at full resolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from footplate.tasks.pyramid import Pyramid


class EncoderDecoder(Pyramid):
    """A pyramid with a coarse and a fine head whose scores add up.

    What a thing is shows in the deep features, where it ends in the fine ones. So the coarse head says what is there,
    and the fine head corrects it pixel by pixel. Its channels are laid out as the 2 x 2 pixels that became a position.

    Args:
        num_classes: Channels of the result.
        widths: As of `Pyramid`.
        depths: As of `Pyramid`.

    Raises:
        ArgumentError: See `Pyramid`.

    Source: Shi et al., "Sub-Pixel Convolutional Neural Network", arXiv:1609.05158.
    """

    def __init__(self, num_classes: int, *, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__(widths, depths)
        self.coarse_head = nn.Conv2d(widths[-2], num_classes, 1)
        self.fine_head = nn.Conv2d(widths[0], 4 * num_classes, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns scores ``(N, num_classes, H, W)`` for pictures ``(N, 3, H, W)``, which may have any size."""
        height, width = inputs.shape[-2:]
        decoded = self.decode(inputs)
        coarse = self.coarse_head(decoded[1])
        fine = F.pixel_shuffle(self.fine_head(decoded[-1]), 2)
        full = fine + F.interpolate(coarse, list(fine.shape[-2:]), mode="bilinear")
        return full[..., :height, :width]
