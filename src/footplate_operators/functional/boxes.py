"""Functions on boxes: non-maximum suppression (NMS), and overlaps.

Boxes have shape (N, 4): x1, y1, x2 and y2. Rotated boxes have shape (N, 5): center x and y, width, height, and angle
in radians. Quadrilaterals have shape (N, 8): x and y of each corner. 3D boxes have shape (N, 7): center x, y and z,
the three sizes, and the angle around the z axis.

Autocast computes all of them in float32.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from footplate_operators import nms as suppression
from footplate_operators import polygons as shapes
from footplate_operators.registration import coordinates_operator, selecting_operator

_Array = npt.NDArray[Any]
_ArrayOrTensor = TypeVar("_ArrayOrTensor", Tensor, _Array)
_MODES = {"iou": 0, "iof": 1}


def kept_indices(boxes: Tensor, *_: Any) -> Tensor:
    """Returns an empty tensor of indices. Their number depends on values."""
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.long)


def _with_scores(boxes: Tensor, scores: Tensor, indices: Tensor) -> Tensor:
    return torch.cat((boxes[indices], scores[indices][:, None]), 1)


@selecting_operator(kept_indices)
def _nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int, score_threshold: float, max_num: int
) -> Tensor:
    candidates = (scores > score_threshold).nonzero()[:, 0] if score_threshold > 0 else None
    if candidates is not None:
        boxes, scores = boxes[candidates], scores[candidates]
    kept = suppression.nms(boxes, scores, iou_threshold, offset)
    kept = kept[:max_num].clone() if max_num > 0 else kept
    return kept if candidates is None else candidates[kept]


def nms(
    boxes: _ArrayOrTensor,
    scores: _ArrayOrTensor,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[_ArrayOrTensor, _ArrayOrTensor]:
    """Runs NMS: removes boxes whose IoU with a higher-scoring kept box is above a threshold.

    Args:
        boxes: Boxes of shape (N, 4), as a tensor or an array.
        scores: Scores of shape (N,).
        iou_threshold: The largest IoU of two kept boxes.
        offset: 1 if x2 and y2 are inclusive, and 0 otherwise.
        score_threshold: If positive, first removes all boxes whose score is not larger.
        max_num: If positive, the maximum number of kept boxes.

    Returns:
        The kept boxes with their scores, of shape (K, 5), sorted by descending score, and their indices.
    """
    if isinstance(boxes, np.ndarray):
        tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
        dets, kept = nms(*tensors, iou_threshold, offset, score_threshold, max_num)
        return dets.numpy(), kept.numpy()
    kept = _nms(boxes, scores, float(iou_threshold), offset, float(score_threshold), max_num)
    return _with_scores(boxes, scores, kept), kept


def _soft_kept(boxes: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    kept = kept_indices(boxes)
    return boxes.new_empty(kept.size(0), 5), kept


@selecting_operator(_soft_kept)
def _soft_nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, sigma: float, min_score: float, method: int, offset: int
) -> tuple[Tensor, Tensor]:
    dets = boxes.new_empty(boxes.size(0), 5)
    kept = suppression.softnms(boxes, scores, dets, iou_threshold, sigma, min_score, method, offset)
    return dets[: kept.size(0)].clone(), kept


def soft_nms(
    boxes: _ArrayOrTensor,
    scores: _ArrayOrTensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
) -> tuple[_ArrayOrTensor, _ArrayOrTensor]:
    """Runs Soft-NMS: reduces the scores of boxes that overlap a higher-scoring box.

    Args:
        boxes: Boxes of shape (N, 4), as a tensor or an array.
        scores: Scores of shape (N,).
        iou_threshold: The minimum IoU at which the methods "naive" and "linear" take effect.
        sigma: The width of the Gaussian for the method "gaussian".
        min_score: Boxes whose score falls below this value are removed.
        method: "naive", "linear" or "gaussian".
        offset: 1 if x2 and y2 are inclusive, and 0 otherwise.

    Returns:
        The kept boxes with their reduced scores, of shape (K, 5), sorted by descending score, and their indices.
    """
    if isinstance(boxes, np.ndarray):
        tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
        dets, kept = soft_nms(*tensors, iou_threshold, sigma, min_score, method, offset)
        return dets.numpy(), kept.numpy()
    number = {"naive": 0, "linear": 1, "gaussian": 2}[method]
    return _soft_nms(boxes, scores, float(iou_threshold), float(sigma), float(min_score), number, offset)


@selecting_operator(kept_indices)
def _nms_rotated(dets: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float) -> Tensor:
    order = scores.sort(descending=True, stable=True)[1]
    boxes = dets if labels is None else torch.cat((dets, labels[:, None].to(dets)), 1)
    return suppression.nms_rotated(boxes, scores, order, boxes, order, iou_threshold, int(labels is not None))


def nms_rotated(
    dets: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None, clockwise: bool = True
) -> tuple[Tensor, Tensor]:
    """Runs NMS on rotated boxes.

    Args:
        dets: Rotated boxes of shape (N, 5).
        scores: Scores of shape (N,).
        iou_threshold: The largest IoU of two kept boxes.
        labels: The class of each box, of shape (N,). If set, boxes of different classes do not suppress each other.
        clockwise: Whether boxes turn clockwise.

    Returns:
        The kept boxes with their scores, of shape (K, 6), sorted by descending score, and their indices.
    """
    kept = _nms_rotated(_turned(dets, clockwise), scores, labels, float(iou_threshold))
    return _with_scores(dets, scores, kept), kept


def _turned(boxes: Tensor, clockwise: bool) -> Tensor:
    return boxes if clockwise else torch.cat((boxes[:, :4], -boxes[:, 4:]), 1)


@selecting_operator(kept_indices)
def _nms_quadri(dets: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float) -> Tensor:
    order = scores.sort(descending=True, stable=True)[1]
    return suppression.nms_quadri(dets, scores, order, dets, iou_threshold, int(labels is not None))


def nms_quadri(
    dets: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Runs NMS on quadrilaterals of shape (N, 8); see `nms_rotated`. As in mmcv, ignores `labels`."""
    kept = _nms_quadri(dets, scores, labels, float(iou_threshold))
    return _with_scores(dets, scores, kept), kept


_NMS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "nms": nms,
    "soft_nms": soft_nms,
    "nms_rotated": nms_rotated,
    "nms_quadri": nms_quadri,
}


def batched_nms(
    boxes: Tensor, scores: Tensor, idxs: Tensor, nms_cfg: Mapping[str, Any] | None, class_agnostic: bool = False
) -> tuple[Tensor, Tensor]:
    """Runs NMS separately for each class.

    Args:
        boxes: Boxes of shape (N, 4), or rotated boxes of shape (N, 5).
        scores: Scores of shape (N,).
        idxs: The class of each box, of shape (N,).
        nms_cfg: The name of the function as `type`, "nms" by default, and its arguments. With at least `split_thr`
            boxes, 10000 by default, calls the function once for each class, to save time. `class_agnostic` overrides
            the argument of this name. If None, the boxes are only sorted.
        class_agnostic: Whether boxes of different classes suppress each other.

    Returns:
        The kept boxes with their scores, of shape (K, 5) or (K, 6), sorted by descending score, and their indices.
    """
    if nms_cfg is None:
        order = scores.sort(descending=True)[1]
        return _with_scores(boxes, scores, order), order
    arguments = dict(nms_cfg)
    name, split_at = arguments.pop("type", "nms"), arguments.pop("split_thr", 10000)
    suppress = _NMS[name] if isinstance(name, str) else name
    shifted = boxes
    if not arguments.pop("class_agnostic", class_agnostic):  # boxes of different classes are moved apart
        if boxes.size(1) == 5:
            step = idxs.to(boxes) * (boxes[:, :2].max() + boxes[:, 2:4].max() + 1)
            shifted = torch.cat((boxes[:, :2] + step[:, None], boxes[:, 2:]), 1)
        else:
            shifted = boxes + (idxs.to(boxes) * (boxes.max() + 1))[:, None]
    if torch.compiler.is_compiling() or boxes.size(0) < split_at:  # the number may be unknown when a graph is compiled
        dets, kept = suppress(shifted, scores, **arguments)
        return torch.cat((boxes[kept], dets[:, -1:]), 1), kept
    max_num = arguments.pop("max_num", -1)
    parts = []
    for label in torch.unique(idxs):
        members = (idxs == label).nonzero()[:, 0]
        dets, kept = suppress(shifted[members], scores[members], **arguments)
        parts.append((dets[:, -1], members[kept]))
    kept_scores, kept = (torch.cat(part) for part in zip(*parts, strict=True))
    kept, places = kept.sort()  # boxes with equal scores keep their order
    kept_scores, order = kept_scores[places].sort(descending=True)
    kept = kept[order]
    if max_num > 0:
        kept, kept_scores = kept[:max_num], kept_scores[:max_num]
    return torch.cat((boxes[kept], kept_scores[:, None]), 1), kept


def _overlaps(boxes: Tensor, others: Tensor, mode: int, aligned: bool) -> Tensor:
    """Returns an output for overlaps, of shape (N, M), or (N,) if `aligned` is set."""
    return boxes.new_zeros((boxes.size(0),) if aligned else (boxes.size(0), others.size(0)))


@coordinates_operator(suppression.bbox_overlaps, "bboxes1 bboxes2 overlaps")
def _bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, mode: int, aligned: bool, offset: int) -> Tensor:
    return _overlaps(bboxes1, bboxes2, mode, aligned)


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False, offset: int = 0
) -> Tensor:
    """Returns the overlaps of boxes. They have no gradient.

    Args:
        bboxes1: Boxes of shape (N, 4).
        bboxes2: Boxes of shape (M, 4).
        mode: "iou", or "iof" for the intersection over the area of the box in `bboxes1`.
        aligned: Whether to compare the boxes pair by pair, which requires N = M.
        offset: 1 if x2 and y2 are inclusive, and 0 otherwise.

    Returns:
        The overlaps, of shape (N, M), or (N,) if `aligned` is set.
    """
    return _bbox_overlaps(bboxes1, bboxes2, _MODES[mode], aligned, offset)


@coordinates_operator(shapes.box_iou_rotated, "bboxes1 bboxes2 overlaps")
def _box_iou_rotated(bboxes1: Tensor, bboxes2: Tensor, mode: int, aligned: bool) -> Tensor:
    return _overlaps(bboxes1, bboxes2, mode, aligned)


def box_iou_rotated(
    bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False, clockwise: bool = True
) -> Tensor:
    """Returns the overlaps of rotated boxes of shapes (N, 5) and (M, 5); see `bbox_overlaps`.

    `clockwise` states whether boxes turn clockwise.
    """
    return _box_iou_rotated(_turned(bboxes1, clockwise), _turned(bboxes2, clockwise), _MODES[mode], aligned)


@coordinates_operator(shapes.box_iou_quadri, "bboxes1 bboxes2 overlaps")
def _box_iou_quadri(bboxes1: Tensor, bboxes2: Tensor, mode: int, aligned: bool) -> Tensor:
    return _overlaps(bboxes1, bboxes2, mode, aligned)


def box_iou_quadri(bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", aligned: bool = False) -> Tensor:
    """Returns the overlaps of convex quadrilaterals of shapes (N, 8) and (M, 8); see `bbox_overlaps`."""
    return _box_iou_quadri(bboxes1, bboxes2, _MODES[mode], aligned)


def _group_sizes(dets: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    return dets.new_empty(dets.size(0), dtype=torch.long), kept_indices(dets)


@selecting_operator(_group_sizes)
def _nms_match(dets: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    groups = suppression.nms_match(dets, iou_threshold)
    members = [member for group in groups for member in group]
    return dets.new_tensor(members, dtype=torch.long), dets.new_tensor(list(map(len, groups)), dtype=torch.long)


def nms_match(dets: _ArrayOrTensor, iou_threshold: float) -> list[_ArrayOrTensor]:
    """Runs NMS and returns a group of indices for each kept box: its own, and those of the boxes that it suppresses.

    `dets` has shape (N, 5), with the score in the last column, as a tensor or an array.
    """
    if isinstance(dets, np.ndarray):
        return [group.numpy() for group in nms_match(torch.from_numpy(dets), iou_threshold)]
    members, sizes = _nms_match(dets, float(iou_threshold))
    return list(torch.split(members, sizes.tolist()))
