"""Box operations in plain torch. Boxes are ``x1 y1 x2 y2`` in pixels."""

import numpy as np
import torch
from torch import Tensor

_TINY = 1e-7


def box_areas(boxes: Tensor) -> Tensor:
    """Returns the areas ``(..., )`` of boxes ``(..., 4)``. The area of an inverted box is 0.

    Example:
        >>> box_areas(torch.tensor([[0.0, 0.0, 4.0, 3.0], [2.0, 2.0, 1.0, 5.0]])).tolist()
        [12.0, 0.0]
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Returns the IoU of each pair of `boxes`, ``(..., N, 4)``, and `others`, ``(..., M, 4)``, as ``(..., N, M)``."""
    inner = _intersection(boxes[..., :, None, :], others[..., None, :, :])
    union = box_areas(boxes)[..., :, None] + box_areas(others)[..., None, :] - inner
    return inner / union.clamp(min=_TINY)


def aligned_giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Returns the generalized IoU ``(..., )``, from -1 to 1, of each box ``(..., 4)`` and the box at the same index.

    Source: Rezatofighi et al., "Generalized Intersection over Union", arXiv:1902.09630.
    """
    inner = _intersection(boxes, others)
    union = box_areas(boxes) + box_areas(others) - inner
    hull = torch.cat([torch.minimum(boxes, others)[..., :2], torch.maximum(boxes, others)[..., 2:]], dim=-1)
    around = box_areas(hull)
    return inner / union.clamp(min=_TINY) - (around - union) / around.clamp(min=_TINY)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, *, labels: Tensor | None = None) -> Tensor:
    """Applies non-maximum suppression and returns the indices of the remaining boxes, ``(K,)``, int64, best first.

    Of two boxes with equal scores, the first one is better.

    Args:
        boxes: ``(N, 4)``.
        scores: ``(N,)``.
        iou_threshold: A box is removed if its IoU with a better box exceeds this threshold.
        labels: ``(N,)``; boxes with different labels do not suppress each other.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
        >>> nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()
        [1, 2]
    """
    order = torch.sort(scores, descending=True, stable=True).indices
    boxes = boxes[order]
    overlaps = pairwise_iou(boxes, boxes) > iou_threshold
    if labels is not None:
        overlaps &= labels[order][:, None] == labels[order][None]
    rows = overlaps.cpu().numpy()
    stays = np.ones(len(rows), dtype=bool)
    for place, row in enumerate(rows):
        if stays[place]:
            stays[place + 1 :] &= ~row[place + 1 :]
    return order[torch.from_numpy(stays).to(order.device)]


def to_centers(boxes: Tensor) -> Tensor:
    """Converts boxes ``(..., 4)`` from ``x1 y1 x2 y2`` to ``cx cy w h``."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def from_centers(boxes: Tensor) -> Tensor:
    """Converts boxes ``(..., 4)`` from ``cx cy w h`` to ``x1 y1 x2 y2``."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def clip_boxes(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Clips boxes ``(..., 4)`` to an image of height and width `shape`."""
    height, width = shape
    most = boxes.new_tensor([width, height, width, height])
    return torch.minimum(boxes.clamp(min=0), most)


def _intersection(boxes: Tensor, others: Tensor) -> Tensor:
    begin = torch.maximum(boxes[..., :2], others[..., :2])
    sides = (torch.minimum(boxes[..., 2:], others[..., 2:]) - begin).clamp(min=0)
    return sides[..., 0] * sides[..., 1]
