"""A small encoder-decoder that computes at half resolution and predicts at full resolution."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from footplate.tasks.pyramid import Pyramid


class EncoderDecoder(Pyramid):
    """A feature pyramid with a coarse and a fine head whose scores are added.

    The coarse head classifies objects from deep features. The fine head refines their borders from features at half
    resolution, and predicts the 2 x 2 pixels of each position as separate channels.

    Args:
        num_classes: The number of output channels.
        widths: See `Pyramid`.
        depths: See `Pyramid`.

    Raises:
        ArgumentError: See `Pyramid`.

    Source: Shi et al., "Sub-Pixel Convolutional Neural Network", arXiv:1609.05158.
    """

    def __init__(self, num_classes: int, *, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__(widths, depths)
        self.coarse_head = nn.Conv2d(widths[-2], num_classes, 1)
        self.fine_head = nn.Conv2d(widths[0], 4 * num_classes, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns scores ``(N, num_classes, H, W)`` for images ``(N, 3, H, W)`` of any size."""
        height, width = inputs.shape[-2:]
        decoded = self.decode(inputs)
        coarse = self.coarse_head(decoded[1])
        fine = F.pixel_shuffle(self.fine_head(decoded[-1]), 2)
        full = fine + F.interpolate(coarse, list(fine.shape[-2:]), mode="bilinear")
        return full[..., :height, :width]
