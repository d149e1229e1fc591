"""A small anchor-free detection model that trains in minutes without an accelerator."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate.data.structures import InstanceData
from footplate.registry import MODELS
from footplate.tasks.detection.assignment import Truth, assign
from footplate.tasks.detection.base import BaseDetector
from footplate.tasks.detection.boxes import aligned_giou
from footplate.tasks.detection.network import Grid, PyramidDetector


@MODELS.register_module()
class SmallDetector(BaseDetector):
    """Anchor-free detector for small images: a `PyramidDetector` predicts classes and one box at every position.

    Args:
        num_classes: The number of classes.
        widths: The channels of each stage of the network.
        depths: The number of residual blocks of each stage.
        levels: How many of the deepest stages have a prediction head.
        head_width: The number of channels in a head.
        box_weight: The weight of the box loss relative to the classification loss.
        test_cfg: The postprocessing of predictions: arguments of `Selection`.
        flip_test: Whether to average predictions over the image and the flipped image.
        data_preprocessor: See `BaseModel`; usually a DetDataPreprocessor.
        init_cfg: See `BaseModel`.

    Raises:
        ArgumentError: `test_cfg` is invalid.

    Source: Tian et al., "FCOS", arXiv:1904.01355; Feng et al., "TOOD", arXiv:2108.07755.

    Example:
        >>> import torch
        >>> SmallDetector(num_classes=10)(torch.zeros(2, 3, 64, 64)).boxes.shape
        torch.Size([2, 336, 4])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 1, 2, 2),
        levels: int = 3,
        head_width: int = 64,
        box_weight: float = 2.0,
        test_cfg: Mapping[str, Any] | None = None,
        flip_test: bool = False,
        data_preprocessor: nn.Module | Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(num_classes, test_cfg=test_cfg, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.network = PyramidDetector(num_classes, widths=widths, depths=depths, levels=levels, head_width=head_width)
        self.box_weight = box_weight
        self.flip_test = flip_test

    def outputs(self, inputs: Tensor) -> Grid:
        """Returns the predictions at every position for images ``(N, 3, H, W)``."""
        grid: Grid = self.network(inputs)
        return grid

    def losses(self, inputs: Tensor, instances: Sequence[InstanceData]) -> dict[str, Tensor]:
        """Returns `loss_cls`, `loss_bbox` and `iou`, the weighted mean generalized IoU of the assigned boxes."""
        grid = self.outputs(inputs)
        targets = assign(grid, Truth.of(instances, grid.boxes))
        sure = targets.scores.amax(dim=-1)  # (N, P), 0 for positions without an instance
        total = sure.sum().clamp(min=1)
        classes = F.binary_cross_entropy_with_logits(grid.scores, targets.scores, reduction="sum") / total
        overlap = aligned_giou(grid.boxes, targets.boxes)
        boxes = (sure * (1 - overlap)).sum() / total
        iou = (sure * overlap.detach()).sum() / total
        return {"loss_cls": classes, "loss_bbox": self.box_weight * boxes, "iou": iou}

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores and boxes; with `flip_test`, averaged over the image and the flipped image."""
        height, width = inputs.shape[-2:]
        stride = self.network.stride
        inputs = F.pad(inputs, (0, -width % stride, 0, -height % stride))  # so that the flipped image has the same grid
        grid = self.outputs(inputs)
        scores, boxes = grid.scores.sigmoid(), grid.boxes
        if self.flip_test:
            mirrored = _mirrored(self.outputs(inputs.flip(-1)), inputs.shape[-1])
            scores, boxes = (scores + mirrored.scores.sigmoid()) / 2, (boxes + mirrored.boxes) / 2
        return scores, boxes


def _mirrored(grid: Grid, width: int) -> Grid:
    """Maps the predictions for a flipped image of `width` pixels back to the original image."""
    strides, counts = torch.unique_consecutive(grid.strides.long(), return_counts=True)
    places, begin = [], 0
    for stride, count in zip(strides.tolist(), counts.tolist(), strict=True):
        rows = torch.arange(begin, begin + count, device=grid.strides.device).view(-1, width // stride)
        places.append(rows.flip(1).flatten())
        begin += count
    order = torch.cat(places)
    x1, y1, x2, y2 = grid.boxes[:, order].unbind(-1)
    return grid._replace(scores=grid.scores[:, order], boxes=torch.stack([width - x2, y1, width - x1, y2], dim=-1))
