"""Computes overlaps of rotated boxes on the CPU for MMDetection3D's KITTI metric.

Machines without a GPU use this module in place of `mmdet3d.evaluation.functional.kitti_utils.rotate_iou`.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footplate_operators.polygons import overlaps, rotated_box_corners


def rotate_iou_gpu_eval(
    boxes: NDArray[Any], query_boxes: NDArray[Any], criterion: int = -1, device_id: int = 0
) -> NDArray[np.float32]:
    """Returns the bird's-eye-view overlaps between boxes as an array of shape ``(N, M)``.

    Args:
        boxes: Boxes of shape ``(N, 5)``: center x, center y, width, height, and clockwise angle in radians.
        query_boxes: Boxes of shape ``(M, 5)`` in the same format.
        criterion: The area by which the intersection area is divided: -1 for the union, 0 for the query box, and 1 for
            the box. Any other value disables the division.
        device_id: Ignored.
    """
    first, second = _read(boxes), _read(query_boxes)
    area, other = first[:, 2:4].prod(1)[:, None], second[:, 2:4].prod(1)[None]
    corners = rotated_box_corners(first), rotated_box_corners(second)
    shared = overlaps(*corners, of_first=True, aligned=False) * area
    divisor = {-1: area + other - shared, 0: other, 1: area}.get(criterion, torch.ones(()))
    return torch.where(shared > 0, shared / divisor, 0.0).float().numpy()


def _read(boxes: NDArray[Any]) -> Tensor:
    """Converts boxes to a tensor, and their clockwise angles to counterclockwise angles."""
    return torch.from_numpy(np.asarray(boxes, np.float64)).reshape(-1, 5) * torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0])
