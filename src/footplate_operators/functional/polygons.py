"""Functions on polygons, rotated boxes with gradients, and 3D boxes. See `footplate_operators.polygons`.

Quadrilaterals have shape (N, 8): x and y of each corner. 3D boxes have shape (N, 7): center x, y and z, the three
sizes, and the angle around the z axis. Autocast computes all functions in float32.
"""

import torch
from torch import Tensor

from footplate_operators import nms as suppression
from footplate_operators import points as clouds
from footplate_operators import polygons as shapes
from footplate_operators.functional.boxes import box_iou_rotated, kept_indices, nms, nms_rotated
from footplate_operators.registration import coordinates_operator, selecting_operator


@coordinates_operator(shapes.convex_iou, "pointsets polygons overlaps")
def convex_iou(pointsets: Tensor, polygons: Tensor) -> Tensor:
    """Returns the IoU of the convex hulls of N sets of nine points and M quadrilaterals.

    The point sets have shape (N, 18), and the quadrilaterals have shape (M, 8). The result has shape (N, M).
    """
    return pointsets.new_zeros(pointsets.size(0), polygons.size(0))


@coordinates_operator(shapes.convex_giou, "pointsets polygons output")
def _convex_giou(pointsets: Tensor, polygons: Tensor) -> Tensor:
    return pointsets.new_zeros(pointsets.size(0), 19)


def convex_giou(pointsets: Tensor, polygons: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the generalized IoU of each point set's convex hull and the quadrilateral at the same index.

    The point sets have shape (N, 18), and the quadrilaterals have shape (N, 8).

    Returns:
        The values, of shape (N,), and their gradients with respect to the points, of shape (N, 18).
    """
    output = _convex_giou(pointsets, polygons)
    return output[:, -1], output[:, :-1]


@coordinates_operator(shapes.min_area_polygons, "pointsets polygons")
def min_area_polygons(pointsets: Tensor) -> Tensor:
    """Returns the corners of the smallest rectangle around each set of nine points, of shape (N, 8).

    The point sets have shape (N, 18).
    """
    return pointsets.new_zeros(pointsets.size(0), 8)


@coordinates_operator(clouds.points_in_polygons_forward, "points polygons output")
def points_in_polygons(points: Tensor, polygons: Tensor) -> Tensor:
    """Returns 1 where a point is in a quadrilateral and 0 elsewhere, of shape (N, M).

    The points have shape (N, 2), and the quadrilaterals have shape (M, 8).
    """
    return points.new_zeros(points.size(0), polygons.size(0))


def diff_iou_rotated_2d(box1: Tensor, box2: Tensor) -> Tensor:
    """Returns the IoU of rotated boxes, with a gradient.

    Args:
        box1: Rotated boxes of shape (B, N, 5): center x and y, width, height, and angle in radians.
        box2: Rotated boxes of the same shape, compared pair by pair.

    Returns:
        The IoU, of shape (B, N).
    """
    shared = _shared_areas(box1, box2)
    areas = box1[..., 2] * box1[..., 3] + box2[..., 2] * box2[..., 3]
    return shared / (areas - shared)


def _shared_areas(box1: Tensor, box2: Tensor) -> Tensor:
    first, second = (shapes.rotated_box_corners(boxes.flatten(0, 1)) for boxes in (box1, box2))
    return shapes.intersection_areas(first, second).view(box1.shape[:2]).to(box1.dtype)


def _shared_heights(first: Tensor, second: Tensor) -> Tensor:
    tops, bottoms = ([boxes[..., 2] + side * boxes[..., 5] / 2 for boxes in (first, second)] for side in (1, -1))
    return (torch.minimum(*tops) - torch.maximum(*bottoms)).clamp(min=0)


def diff_iou_rotated_3d(box3d1: Tensor, box3d2: Tensor) -> Tensor:
    """Returns the IoU of 3D boxes, with a gradient.

    Args:
        box3d1: Boxes of shape (B, N, 7).
        box3d2: Boxes of the same shape, compared pair by pair.

    Returns:
        The IoU, of shape (B, N).
    """
    columns = [0, 1, 3, 4, 6]
    shared = _shared_areas(box3d1[..., columns], box3d2[..., columns]) * _shared_heights(box3d1, box3d2)
    return shared / (box3d1[..., 3:6].prod(-1) + box3d2[..., 3:6].prod(-1) - shared)


@coordinates_operator(shapes.iou3d_boxes_overlap_bev_forward, "boxes_a boxes_b areas")
def boxes_overlap_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Returns the areas that 3D boxes of shapes (N, 7) and (M, 7) share, seen from above, of shape (N, M)."""
    return boxes_a.new_zeros(boxes_a.size(0), boxes_b.size(0))


def boxes_iou3d(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Returns the IoU of 3D boxes of shapes (N, 7) and (M, 7), of shape (N, M)."""
    first, second = boxes_a[:, None], boxes_b[None]
    shared = boxes_overlap_bev(boxes_a, boxes_b) * _shared_heights(first, second)
    whole = first[..., 3:6].prod(-1) + second[..., 3:6].prod(-1) - shared
    return shared / whole.clamp(min=1e-6)


@selecting_operator(kept_indices)
def _nms3d(boxes: Tensor, scores: Tensor, iou_threshold: float, is_rotated: bool) -> Tensor:
    order = scores.sort(descending=True)[1]
    kept, number = torch.zeros_like(order), torch.zeros((), dtype=torch.long)
    suppress = suppression.iou3d_nms3d_forward if is_rotated else suppression.iou3d_nms3d_normal_forward
    suppress(boxes[order], kept, number, iou_threshold)
    return order[kept[: int(number)]]


def nms3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Runs NMS on 3D boxes, seen from above. Returns the indices of the kept boxes, sorted by descending score."""
    return _nms3d(boxes, scores, float(iou_threshold), True)


def nms3d_normal(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Like `nms3d`, but ignores the angles of the boxes."""
    return _nms3d(boxes, scores, float(iou_threshold), False)


def _from_corners(boxes: Tensor) -> Tensor:
    """Converts x1, y1, x2, y2 and an angle to rotated boxes."""
    return torch.cat(((boxes[:, :2] + boxes[:, 2:4]) / 2, boxes[:, 2:4] - boxes[:, :2], boxes[:, 4:]), 1)


def boxes_iou_bev(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Returns the IoU of boxes of shape (N, 5): x1, y1, x2, y2, and the angle by which they are turned."""
    return box_iou_rotated(_from_corners(boxes_a), _from_corners(boxes_b))


def nms_bev(
    boxes: Tensor, scores: Tensor, thresh: float, pre_max_size: int | None = None, post_max_size: int | None = None
) -> Tensor:
    """Runs NMS on boxes as in `boxes_iou_bev`. Returns the indices of the kept boxes, sorted by descending score.

    Only the `pre_max_size` boxes with the highest scores take part, and at most `post_max_size` are kept.
    """
    order = scores.sort(descending=True)[1][:pre_max_size]
    _, kept = nms_rotated(_from_corners(boxes[order]), scores[order], thresh)
    return order[kept][:post_max_size]


def nms_normal_bev(boxes: Tensor, scores: Tensor, thresh: float) -> Tensor:
    """Like `nms_bev`, but ignores the angles of the boxes."""
    return nms(boxes[:, :4], scores, thresh)[1]
