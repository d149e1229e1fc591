"""Variants of non-maximum suppression (NMS), and overlaps of boxes.

Boxes have shape (N, 4), with the columns x1, y1, x2 and y2. `offset` is 1 if x2 and y2 are inclusive, and 0 otherwise.

Sources: Bodla et al., Soft-NMS (2017).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from footplate_operators.compiled import compiled_operators, compute_type
from footplate_operators.polygons import overlaps, rotated_box_corners
from footplate_operators.sampling import blocks

_Array = npt.NDArray[Any]


_BLOCK = 64  # the number of boxes that are compared with the boxes after them at once
_PART = 2048  # the number of boxes that a block is compared with at once, so that the arrays fit into the cache
_PAIRS = 4096  # the number of pairs of polygons whose overlap is computed at once


def _array(tensor: Tensor) -> _Array:
    """Returns a tensor as an array. Mixed precision values become float32; NumPy has no bfloat16."""
    array: _Array = tensor.detach().to(compute_type(tensor)).cpu().numpy()
    return array


@np.errstate(divide="ignore", invalid="ignore")
def _ious(boxes: _Array, others: _Array, offset: int) -> _Array:
    """Returns the IoU of two sets of boxes of shape (4, ...). The shapes are broadcast."""
    corners = (*map(np.maximum, boxes[:2], others[:2]), *map(np.minimum, boxes[2:], others[2:]))
    (width, height), *sides = (
        (each[2] - each[0] + offset, each[3] - each[1] + offset) for each in (corners, boxes, others)
    )
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area, other_area = (width * height for width, height in sides)
    ratios: _Array = shared / (area + other_area - shared)
    return ratios


def _kept(count: int, overlapping: Callable[[_Array, _Array], _Array]) -> _Array:
    """Runs NMS on boxes that are sorted by descending score. Returns the indices of the kept boxes.

    Args:
        count: The number of boxes.
        overlapping: A function that takes the indices of boxes, of shapes (n,) and (m,), and returns which of them
            overlap, as an array of shape (n, m). No index in the second array is smaller than one in the first, unless
            both are the same array; then only pairs of a box and a later one count.
    """
    blocks, rest = [np.empty(0, dtype=int)], np.arange(count)
    while len(rest):
        block, rest = rest[:_BLOCK], rest[_BLOCK:]
        overlap = overlapping(block, block)
        remains = np.ones(len(block), dtype=bool)
        for place in range(len(block)):
            if remains[place]:
                remains[place + 1 :] &= ~overlap[place, place + 1 :]
        blocks.append(block[remains])
        parts = [rest[start : start + _PART] for start in range(0, len(rest), _PART)]
        rest = np.concatenate([rest[:0], *(part[~overlapping(blocks[-1], part).any(0)] for part in parts)])
    return np.concatenate(blocks)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Runs NMS and returns the int64 indices of the kept boxes, sorted by descending score.

    A box is removed if its IoU with a higher-scoring kept box is above `iou_threshold`.
    """
    compiled = None if offset else compiled_operators(boxes)
    if compiled is not None:
        dtype = compute_type(boxes)
        kept: Tensor = compiled.nms(boxes.detach().to(dtype), scores.detach().to(dtype), iou_threshold)
        return kept
    order = scores.detach().sort(descending=True, stable=True)[1].cpu().numpy()
    corners = np.ascontiguousarray(_array(boxes)[order].T)

    def overlapping(first: _Array, second: _Array) -> _Array:
        hits: _Array = _ious(corners[:, first, None], corners[:, None, second], offset) > iou_threshold
        return hits

    return torch.from_numpy(order[_kept(len(order), overlapping)]).to(boxes.device)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Runs NMS on boxes of shape (N, 5), whose last column is the score.

    Returns a list for each kept box: its index, followed by the indices of the boxes that it suppresses.
    """
    corners = _array(dets).T
    order = dets.detach()[:, 4].sort(descending=True, stable=True)[1].cpu().numpy()
    groups = []
    while len(order):
        hits = _ious(corners[:, order[:1]], corners[:, order], 0) >= iou_threshold
        hits[0] = True  # an empty box
        groups.append(order[hits].tolist())
        order = order[~hits]
    return groups


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Runs Soft-NMS. Writes the kept boxes and their reduced scores to `dets`, and returns the boxes' indices.

    Args:
        boxes: Boxes of shape (N, 4).
        scores: Scores of shape (N,).
        dets: The output, of shape (N, 5), sorted by descending score. Only the rows of kept boxes are written.
        iou_threshold: The minimum IoU at which methods 0 and 1 take effect.
        sigma: The width of the Gaussian for method 2.
        min_score: Boxes whose score falls below this value are removed.
        method: 0 removes overlapping boxes, 1 reduces their scores linearly with the IoU, and 2 multiplies all scores
            by a Gaussian of the IoU.
        offset: See the module docstring.
    """
    array, score = _array(boxes), _array(scores).copy()
    remaining = np.arange(len(array))
    kept: list[int] = []
    while len(remaining):
        place = int(score[remaining].argmax())
        best = remaining[place]
        dets[len(kept)] = torch.from_numpy(np.append(array[best], score[best]))
        kept.append(int(best))
        remaining = np.delete(remaining, place)
        overlap = _ious(array[[best]].T, array[remaining].T, offset)
        if method == 2:
            factor = np.exp(-(overlap * overlap) / sigma)
        else:
            factor = np.where(overlap >= iou_threshold, 1 - overlap if method == 1 else 0.0, 1.0)
        score[remaining] *= factor.astype(score.dtype)
        remaining = remaining[score[remaining] >= min_score]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


def _polygon_nms(
    corners: Tensor, order: Tensor, labels: Tensor | None, iou_threshold: float, *, exact: bool = True
) -> Tensor:
    """Runs NMS on polygons of shape (N, 4, 2) and returns the kept indices, sorted by descending score.

    `order` contains the indices sorted by descending score. If `labels` is set, runs NMS separately for each label.
    """
    corners = corners.detach().double()[order].cpu()
    low, high = corners.amin(1).numpy().T, corners.amax(1).numpy().T
    classes = None if labels is None else labels[order].cpu().numpy()

    def overlapping(first: _Array, second: _Array) -> _Array:
        hits = np.ones((len(first), len(second)), dtype=bool)
        if exact:  # otherwise, the overlap may be positive for quadrilaterals that are apart
            for axis in range(2):
                hits &= low[axis, second] < high[axis, first, None]
                hits &= high[axis, second] > low[axis, first, None]
        if classes is not None:
            hits &= classes[second] == classes[first, None]
        if first is second:
            hits = np.triu(hits, 1)
        rows, columns = hits.nonzero()
        for start in range(0, len(rows), _PAIRS):
            row, column = rows[start : start + _PAIRS], columns[start : start + _PAIRS]
            pairs = corners[first[row]], corners[second[column]]
            hits[row, column] = overlaps(*pairs, of_first=False, aligned=True, exact=exact).numpy() > iou_threshold
        return hits

    return order[torch.from_numpy(_kept(len(order), overlapping)).to(order.device)].long()


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: int,
) -> Tensor:
    """Runs NMS on rotated boxes of shape (N, 5). Returns the kept indices, sorted by descending score.

    If `multi_label` is set, the boxes have an additional last column with the label. `order` contains the indices
    sorted by descending score. Ignores `scores`, `dets_sorted` and `labels`.
    """
    classes = dets[:, -1] if multi_label else None
    return _polygon_nms(rotated_box_corners(dets[:, :5]), order, classes, iou_threshold)


def nms_quadri(
    dets: Tensor, scores: Tensor, order: Tensor, dets_sorted: Tensor, iou_threshold: float, multi_label: int
) -> Tensor:
    """Runs NMS on quadrilaterals of shape (N, 8); see `nms_rotated` for `order` and the result.

    As in mmcv, which passes labels as an additional column, boxes of different labels suppress each other. Ignores the
    other arguments.
    """
    return _polygon_nms(dets[:, :8].reshape(-1, 4, 2), order, None, iou_threshold, exact=False)


def iou3d_nms3d_forward(boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float) -> None:
    """Runs NMS on boxes that are sorted by descending score, seen from above.

    Writes the indices of the kept boxes to the first entries of `keep`, of shape (N,), and their number to `num_out`.

    Args:
        boxes: Boxes of shape (N, 7): center x, y and z, the three sizes, and the angle around the z axis.
        keep: An output.
        num_out: An output, a scalar tensor.
        nms_overlap_thresh: Boxes whose IoU with a kept box is larger are removed.
    """
    order = torch.arange(len(boxes), device=boxes.device)
    corners = rotated_box_corners(boxes[:, [0, 1, 3, 4, 6]])
    kept = _polygon_nms(corners, order, None, nms_overlap_thresh)
    keep[: len(kept)] = kept.to(keep.device)
    num_out.fill_(len(kept))


def iou3d_nms3d_normal_forward(boxes: Tensor, keep: Tensor, num_out: Tensor, nms_overlap_thresh: float) -> None:
    """Like `iou3d_nms3d_forward`, but ignores the angles of the boxes."""
    center, size = boxes[:, :2], boxes[:, 3:5]
    scores = torch.arange(len(boxes), 0, -1, device=boxes.device)
    kept = nms(torch.cat((center - size / 2, center + size / 2), 1), scores, nms_overlap_thresh, 0)
    keep[: len(kept)] = kept.to(keep.device)
    num_out.fill_(len(kept))


def bbox_overlaps(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Computes the IoU of boxes, or the intersection over the first box's area if `mode` is 1.

    The boxes have shapes (N, 4) and (M, 4). Writes the result to `ious`, of shape (N, M), or (N,) if `aligned` is set.
    """

    def area(boxes: Tensor) -> Tensor:
        return (boxes[..., 2] - boxes[..., 0] + offset) * (boxes[..., 3] - boxes[..., 1] + offset)

    for block in blocks(len(boxes1), boxes1, boxes2, ious):
        first, second = (boxes1[block], boxes2[block]) if aligned else (boxes1[block, None], boxes2)
        corner = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
        shared = (corner + offset).clamp(min=0).prod(-1)
        whole = area(first) if mode == 1 else area(first) + area(second) - shared
        ious[block] = shared / whole.clamp(min=max(offset, 1e-6))
