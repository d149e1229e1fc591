"""Classification losses."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.registry import MODELS


@MODELS.register_module()
class LabelSmoothLoss(nn.Module):
    """Cross entropy with label smoothing.

    The true class keeps ``1 - label_smooth_val``; the rest is spread uniformly over all classes.

    Args:
        label_smooth_val: The amount of smoothing, 0 to 1 (exclusive); 0 is plain cross entropy.
        num_classes: Ignored; accepted for compatibility.
        loss_weight: The factor of the loss.
        class_weight: The weight of each class, ``(num_classes,)``; equal by default.

    Raises:
        ArgumentError: `label_smooth_val` is out of range.

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
        """Returns the mean loss, ``()``.

        Args:
            scores: ``(N, C)``, before softmax.
            target: Class labels ``(N,)``, int64, or soft labels ``(N, C)``, float.
        """
        loss = F.cross_entropy(scores, target, self.class_weight, label_smoothing=self.label_smooth_val)
        return self.loss_weight * loss
