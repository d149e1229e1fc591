"""Task-aligned assignment of grid positions to instances."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from footplate.data.structures import InstanceData
from footplate.tasks.detection.boxes import pairwise_iou
from footplate.tasks.detection.network import Grid


class Targets(NamedTuple):
    """The training targets of each grid position.

    Attributes:
        scores: ``(N, P, C)``, 0 to 1.
        boxes: ``(N, P, 4)``, valid where `found` is True.
        found: ``(N, P)``, bool, whether an instance is assigned to the position.
    """

    scores: Tensor
    boxes: Tensor
    found: Tensor


class Truth(NamedTuple):
    """The true instances of a batch, padded to the same number G per image with empty boxes.

    Attributes:
        boxes: ``(N, G, 4)``.
        labels: ``(N, G)``, int64.
    """

    boxes: Tensor
    labels: Tensor

    @classmethod
    def of(cls, instances: Sequence[InstanceData], like: Tensor) -> "Truth":
        """Pads and stacks instances, with the device and dtype of `like`."""
        most = max((len(each) for each in instances), default=0)
        boxes = like.new_zeros((len(instances), most, 4))
        labels = torch.zeros((len(instances), most), dtype=torch.int64, device=like.device)
        for place, each in enumerate(instances):
            boxes[place, : len(each)] = each.bboxes
            labels[place, : len(each)] = each.labels
        return cls(boxes, labels)


@torch.no_grad()
def assign(grid: Grid, truth: Truth, *, top: int = 10, score_power: float = 0.5, iou_power: float = 6.0) -> Targets:
    """Assigns the best positions to each instance.

    The rating of a position inside a box is `score ** score_power * iou ** iou_power`. The `top` positions with the
    highest rating are assigned to an instance. A position belongs to one instance at most, that with the highest IoU.
    Target scores are ratings, scaled so that the best position of an instance has its highest IoU as target.

    Args:
        grid: The output of the network.
        truth: The true instances.
        top: The maximum number of positions per instance.
        score_power: The exponent of the class score in the rating.
        iou_power: The exponent of the IoU in the rating.

    Source: Feng et al., "TOOD: Task-aligned One-stage Object Detection", arXiv:2108.07755.
    """
    classes = grid.scores.shape[-1]
    if truth.boxes.shape[1] == 0:
        nothing = torch.zeros_like(grid.boxes[..., 0], dtype=torch.bool)
        return Targets(torch.zeros_like(grid.scores), torch.zeros_like(grid.boxes), nothing)
    overlaps = pairwise_iou(truth.boxes, grid.boxes)  # (N, G, P)
    positions = grid.scores.shape[1]
    scores = grid.scores.sigmoid().transpose(1, 2)  # (N, C, P)
    scores = scores.gather(1, truth.labels[..., None].expand(-1, -1, positions))
    inside = _inside(grid.points, truth.boxes)
    ratings = scores**score_power * overlaps**iou_power * inside
    chosen = _chosen(ratings, inside, overlaps, top)
    found = chosen.any(dim=1)
    owner = chosen.int().argmax(dim=1)  # (N, P)
    boxes = truth.boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    # Scale the ratings of each instance so that the best equals its largest IoU.
    ratings = ratings * chosen
    best = ratings.amax(dim=-1, keepdim=True)
    wanted = ratings / best.clamp(min=1e-9) * (overlaps * chosen).amax(dim=-1, keepdim=True)
    sure = wanted.amax(dim=1)  # (N, P)
    labels = truth.labels.gather(1, owner)
    hot = torch.nn.functional.one_hot(labels, classes).to(sure.dtype)
    return Targets(hot * (sure * found)[..., None], boxes, found)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Checks whether points ``(P, 2)`` lie inside boxes ``(N, G, 4)``; returns ``(N, G, P)``, bool."""
    begin = points - boxes[..., None, :2]
    end = boxes[..., None, 2:] - points
    return torch.cat([begin, end], dim=-1).amin(dim=-1) > 0


def _chosen(ratings: Tensor, inside: Tensor, overlaps: Tensor, top: int) -> Tensor:
    """Returns which positions are assigned to which instance, ``(N, G, P)``, bool; at most one instance each."""
    best = ratings.topk(min(top, ratings.shape[-1]), dim=-1).indices
    chosen = torch.zeros_like(inside).scatter_(-1, best, True) & inside
    owner = torch.where(chosen, overlaps, -1.0).argmax(dim=1, keepdim=True)
    return chosen & torch.zeros_like(chosen).scatter_(1, owner, True)
