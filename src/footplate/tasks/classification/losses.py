"""Losses of classification."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.registry import MODELS


@MODELS.register_module()
class LabelSmoothLoss(nn.Module):
    """Cross entropy with a truth that is a little uncertain.

    The truth keeps ``1 - label_smooth_val``; the rest is shared equally among all classes.

    Args:
        label_smooth_val: How much is taken from the truth, 0 to 1; with 0 it is plain cross entropy.
        num_classes: Accepted for configs that set it; the scores tell.
        loss_weight: Multiplies the loss.
        class_weight: How much each class weighs, ``(num_classes,)``; equal by default.

    Raises:
        ArgumentError: `label_smooth_val` lies outside of 0 to 1.

    Source: Szegedy et al., "Rethinking the Inception Architecture", arXiv:1512.00567, section 7.
    """

    def __init__(
        self,
        label_smooth_val: float,
        num_classes: int | None = None,
        loss_weight: float = 1.0,
        *,
        class_weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smooth_val < 1:
            raise ArgumentError(
                "label_smooth_val is a share from 0 to 1", key="label_smooth_val", found=label_smooth_val
            )
        self.label_smooth_val = label_smooth_val
        self.num_classes = num_classes
        self.loss_weight = loss_weight
        self.class_weight: Tensor | None
        weights = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("class_weight", weights, persistent=False)

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Returns the mean over pictures, ``()``.

        Args:
            scores: ``(N, C)``, before softmax.
            target: Classes ``(N,)``, int64, or how much each class is true, ``(N, C)``, float.
        """
        loss = F.cross_entropy(scores, target, self.class_weight, label_smoothing=self.label_smooth_val)
        return self.loss_weight * loss
