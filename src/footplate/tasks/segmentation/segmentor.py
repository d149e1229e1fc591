"""A segmentation model that trains in minutes without an accelerator."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from footplate.registry import MODELS
from footplate.tasks.segmentation.base import BaseSegmentor
from footplate.tasks.segmentation.network import EncoderDecoder


@MODELS.register_module()
class SmallSegmentor(BaseSegmentor):
    """Semantic segmentation of small pictures with an `EncoderDecoder`.

    Args:
        num_classes: How many classes there are, the background included.
        widths: Channels of the network's stages.
        depths: Residual blocks of its stages.
        settings: Those of `BaseSegmentor`.

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
        """Returns scores ``(N, num_classes, H, W)`` for pictures ``(N, 3, H, W)``."""
        scores: Tensor = self.network(inputs)
        return scores.float()  # losses are summed up in full precision also under autocast
