"""A small segmentation model that trains in minutes without an accelerator."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from footplate.registry import MODELS
from footplate.tasks.segmentation.base import BaseSegmentor
from footplate.tasks.segmentation.network import EncoderDecoder


@MODELS.register_module()
class SmallSegmentor(BaseSegmentor):
    """Semantic segmentation of small images with an `EncoderDecoder`.

    Args:
        num_classes: The number of classes, including the background.
        widths: The channels of each stage of the network.
        depths: The number of residual blocks of each stage.
        settings: Arguments of `BaseSegmentor`.

    Raises:
        ArgumentError: See `BaseSegmentor`.

    Example:
        >>> import torch
        >>> SmallSegmentor(num_classes=11)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 11, 64, 64])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 1, 2, 2),
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        self.network = EncoderDecoder(num_classes, widths=widths, depths=depths)

    def score(self, inputs: Tensor) -> Tensor:
        """Returns scores ``(N, num_classes, H, W)`` for images ``(N, 3, H, W)``."""
        scores: Tensor = self.network(inputs)
        return scores.float()  # compute losses in float32 even under autocast
