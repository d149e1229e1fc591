"""A small anchor-free detection model that trains in minutes without an accelerator."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from footplate.checks import check_count
from footplate.registry import MODELS
from footplate.weighted import Weighted
from footplate_vision.detection.detector import BaseDetector, aligned_giou, pairwise_iou
from footplate_vision.small_resnet import Convolution, Pyramid
from footplate_vision.structures import InstanceData

_PRIOR = 0.01  # the initial probability of each class
# The assignment of positions to instances, as in TOOD.
_MAX_POSITIONS, _SCORE_POWER, _IOU_POWER = 10, 0.5, 6.0


class Grid(NamedTuple):
    """The predictions at the P grid positions of all feature levels.

    Attributes:
        scores: ``(N, P, C)``, before the sigmoid.
        boxes: ``(N, P, 4)``, x1 y1 x2 y2 in pixels of the network's input.
        points: ``(P, 2)``, the centers of the positions, x y in pixels.
    """

    scores: Tensor
    boxes: Tensor
    points: Tensor


class PyramidDetector(Pyramid):
    """A feature pyramid with a prediction head at each level.

    At each grid position, a head predicts class scores and the distances from the position to the sides of a box.

    Args:
        num_classes: The number of classes.
        widths: See `Pyramid`.
        depths: See `Pyramid`.
        levels: The number of stages with a head, counted from the deepest one.
        head_width: The number of channels in a head.

    Raises:
        ArgumentError: `levels` is not between 1 and `len(widths) - 1`.
        ValueError: `widths` and `depths` differ in length.

    Source: Tian et al., "FCOS", arXiv:1904.01355.

    Example:
        >>> network = PyramidDetector(10, widths=(8, 8, 8), depths=(1, 1, 1), levels=2, head_width=8)
        >>> grid = network(torch.zeros(1, 3, 64, 64))
        >>> grid.scores.shape, grid.boxes.shape
        (torch.Size([1, 320, 10]), torch.Size([1, 320, 4]))
    """

    def __init__(
        self, num_classes: int, *, widths: Sequence[int], depths: Sequence[int], levels: int, head_width: int
    ) -> None:
        super().__init__(widths, depths, levels=levels)
        check_count("levels", levels, most=len(widths) - 1)
        self.heads = nn.ModuleList(_Head(width, num_classes, head_width) for width in widths[: -levels - 1 : -1])

    def forward(self, inputs: Tensor) -> Grid:
        """Returns the scores and boxes at every position for images of shape ``(N, 3, H, W)`` of any size."""
        levels = zip(self.heads, self.decode(inputs), strict=True)
        grids = [head(features, self.stride >> place) for place, (head, features) in enumerate(levels)]
        scores, boxes, points = zip(*grids, strict=True)
        return Grid(torch.cat(scores, 1), torch.cat(boxes, 1), torch.cat(points))


class _Head(nn.Module):
    """A head with a shared convolution and separate branches for classes and boxes."""

    def __init__(self, in_channels: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.shared = Convolution(in_channels, channels)
        self.to_class = nn.Sequential(Convolution(channels, channels), nn.Conv2d(channels, num_classes, 1))
        self.to_box = nn.Sequential(Convolution(channels, channels), nn.Conv2d(channels, 4, 1))
        nn.init.constant_(self.to_class[-1].bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]

    def forward(self, features: Tensor, stride: int) -> Grid:
        shared = self.shared(features)
        scores = self.to_class(shared).flatten(2).transpose(1, 2)
        # Computed in float32 even under autocast. The factor 2 makes the initial boxes four strides wide.
        sides = 2 * stride * self.to_box(shared).flatten(2).transpose(1, 2).float().clamp(max=6).exp()
        rows, columns = (
            (torch.arange(length, device=features.device, dtype=torch.float32) + 0.5) * stride
            for length in features.shape[-2:]
        )
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        points = torch.stack([x.flatten(), y.flatten()], dim=-1)
        boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)
        return Grid(scores.float(), boxes, points)


class Targets(NamedTuple):
    """The training targets of each grid position.

    Attributes:
        scores: ``(N, P, C)``, 0 to 1.
        boxes: ``(N, P, 4)``, valid where a score is positive.
    """

    scores: Tensor
    boxes: Tensor


@torch.no_grad()
def assign(grid: Grid, instances: Sequence[InstanceData]) -> Targets:
    """Assigns the best grid positions to each instance, and returns the training targets.

    The rating of a position inside a box is `score ** 0.5 * iou ** 6`. Each instance is assigned the 10 positions in
    its box with the highest ratings, or all if there are fewer. If several instances claim a position, the one with
    the highest IoU gets it. Target scores are the ratings, scaled so that an instance's highest target equals the
    highest IoU of its positions.

    Args:
        grid: The output of the network.
        instances: The ground-truth instances of each image.

    Source: Feng et al., "TOOD: Task-aligned One-stage Object Detection", arXiv:2108.07755.
    """
    # Padded with empty boxes to the same number G of instances per image.
    true_boxes = pad_sequence([each.bboxes for each in instances], batch_first=True).to(grid.boxes)
    true_labels = pad_sequence([each.labels for each in instances], batch_first=True).long()
    if not true_labels.numel():
        return Targets(torch.zeros_like(grid.scores), torch.zeros_like(grid.boxes))
    overlaps = pairwise_iou(true_boxes, grid.boxes)  # (N, G, P)
    positions = grid.scores.shape[1]
    scores = grid.scores.sigmoid().transpose(1, 2)  # (N, C, P)
    scores = scores.gather(1, true_labels[..., None].expand(-1, -1, positions))
    corners = true_boxes[..., None, :]  # (N, G, 1, 4)
    inside = torch.cat([grid.points - corners[..., :2], corners[..., 2:] - grid.points], dim=-1).amin(dim=-1) > 0
    ratings = scores**_SCORE_POWER * overlaps**_IOU_POWER * inside
    best = ratings.topk(min(_MAX_POSITIONS, positions), dim=-1).indices
    chosen = torch.zeros_like(inside).scatter_(-1, best, True) & inside
    closest = torch.where(chosen, overlaps, -1.0).argmax(dim=1, keepdim=True)
    chosen &= torch.zeros_like(chosen).scatter_(1, closest, True)  # each position belongs to one instance at most
    owner = chosen.int().argmax(dim=1)  # (N, P)
    boxes = true_boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    # Scale the ratings of each instance so that the best equals its largest IoU.
    ratings = ratings * chosen
    highest = ratings.amax(dim=-1, keepdim=True)
    wanted = ratings / highest.clamp(min=1e-9) * (overlaps * chosen).amax(dim=-1, keepdim=True)
    sure = wanted.amax(dim=1)  # (N, P)
    hot = F.one_hot(true_labels.gather(1, owner), grid.scores.shape[-1]).to(sure.dtype)
    return Targets(hot * sure[..., None], boxes)


@MODELS.register_module()
class SmallDetector(BaseDetector):
    """An anchor-free detector for small images. A `PyramidDetector` predicts class scores and a box at every position.

    Args:
        num_classes: The number of classes.
        widths: The number of channels of each stage of the network.
        depths: The number of residual blocks of each stage.
        levels: The number of stages with a prediction head, counted from the deepest one.
        head_width: The number of channels in a head.
        flip_test: Whether to average the predictions for the image and its flipped copy.
        settings: Arguments for `BaseDetector`.

    Raises:
        ArgumentError: A value in `test_cfg` is out of range, or `levels` is not between 1 and `len(widths) - 1`.
        BuildError: `test_cfg` has an unknown key.
        ValueError: `widths` and `depths` differ in length.

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
        flip_test: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        self.network = PyramidDetector(num_classes, widths=widths, depths=depths, levels=levels, head_width=head_width)
        self.flip_test = flip_test

    def outputs(self, inputs: Tensor) -> Grid:
        """Returns the predictions at every position for images of shape ``(N, 3, H, W)``."""
        return self.network(inputs)  # type: ignore[no-any-return]

    def losses(self, inputs: Tensor, instances: Sequence[InstanceData]) -> dict[str, Weighted]:
        """Returns `loss_cls`, `loss_bbox` and `iou` (the mean generalized IoU of the assigned boxes).

        They are `Weighted` by the sum of the positions' target scores. The losses are divided by at least 1.
        """
        grid = self.outputs(inputs)
        targets = assign(grid, instances)
        sure = targets.scores.amax(dim=-1)  # (N, P), 0 for positions without an instance
        assigned = sure.sum()
        total = assigned.clamp(min=1)
        classes = F.binary_cross_entropy_with_logits(grid.scores, targets.scores, reduction="sum") / total
        overlap = aligned_giou(grid.boxes, targets.boxes)
        boxes = (sure * (1 - overlap)).sum() / total
        iou = (sure * overlap.detach()).sum() / assigned
        return {
            "loss_cls": Weighted(classes, total),
            "loss_bbox": Weighted(2 * boxes, total),
            "iou": Weighted(iou, assigned),
        }

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores and boxes, averaged over each image and its flipped copy if `flip_test` is set."""
        inputs = self.network.pad(inputs)  # so that the flipped image has the same grid
        grid = self.outputs(inputs)
        scores, boxes = grid.scores.sigmoid(), grid.boxes
        if self.flip_test:
            strides = [self.network.stride >> level for level in range(len(self.network.heads))]
            mirrored = flip_back(self.outputs(inputs.flip(-1)), inputs.shape[-2:], strides)
            scores, boxes = (scores + mirrored.scores.sigmoid()) / 2, (boxes + mirrored.boxes) / 2
        return scores, boxes


def flip_back(grid: Grid, size: Sequence[int], strides: Sequence[int]) -> Grid:
    """Maps the predictions for a flipped image back to the original image.

    Args:
        grid: The predictions, in the same order of levels as `strides`.
        size: Height and width of the image.
        strides: The stride of each level.
    """
    (height, width), order, begin = size, [], 0
    for stride in strides:
        rows, columns = height // stride, width // stride
        places = torch.arange(rows * columns, device=grid.boxes.device).view(rows, columns)
        order.append(places.flip(1).flatten() + begin)
        begin += rows * columns
    index = torch.cat(order)
    x1, y1, x2, y2 = grid.boxes[:, index].unbind(-1)
    return grid._replace(scores=grid.scores[:, index], boxes=torch.stack([width - x2, y1, width - x1, y2], dim=-1))
