"""Matches predicted boxes with true boxes, for confusion matrices and for finding the worst images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Boxes = NDArray[np.float64]
_TINY = 1e-9
LEAST_IOU = 0.5
LEAST_SCORE = 0.3  # of predictions to compare; also what DetVisualizationHook draws by default


class LabeledBoxes(NamedTuple):
    """Boxes and their classes.

    Attributes:
        boxes: x1 y1 x2 y2, ``(N, 4)``.
        labels: The class of each box, ``(N,)``.
    """

    boxes: _Boxes
    labels: NDArray[np.int64]


def match_boxes(
    truth: LabeledBoxes, predicted: LabeledBoxes, ignored: _Boxes | Sequence[float] = (), *, no_object: int
) -> list[tuple[int, int]]:
    """Matches predicted boxes, best first, with true boxes of an IoU of at least 0.5. Each box is matched at most once.

    First matches boxes of the same class, and then the remaining boxes of different classes.

    Args:
        truth: The true boxes.
        predicted: The predicted boxes, best first.
        ignored: Crowds, ``(M, 4)``. An unmatched prediction of which they cover at least half is left out.
        no_object: The label that stands for a missing box.

    Returns:
        Pairs of a true and a predicted label. The predicted label of an undetected box and the true label of a false
        detection are `no_object`.

    Example:
        >>> truth = LabeledBoxes(np.array([[0, 0, 4, 4], [9, 9, 12, 12.0]]), np.array([1, 0]))
        >>> found = LabeledBoxes(np.array([[0, 0, 4, 5], [5, 5, 6, 6.0]]), np.array([0, 0]))
        >>> match_boxes(truth, found, no_object=2)
        [(1, 0), (0, 2), (2, 0)]
    """
    ious = _intersections(predicted.boxes, truth.boxes)
    ious /= np.maximum(_areas(predicted.boxes)[:, None] + _areas(truth.boxes) - ious, _TINY)
    is_same = predicted.labels[:, None] == truth.labels
    pairs = []
    is_matched, is_found = np.zeros(len(ious), dtype=bool), np.zeros(len(truth.labels), dtype=bool)
    for allowed in (is_same, ~is_same):
        candidates = np.where(allowed & (ious >= LEAST_IOU), ious, 0.0)
        for index in np.flatnonzero(candidates.any(axis=1) & ~is_matched):
            overlaps = candidates[index] * ~is_found
            best = int(overlaps.argmax())
            if overlaps[best]:
                pairs.append((int(truth.labels[best]), int(predicted.labels[index])))
                is_matched[index] = is_found[best] = True
    pairs += [(label, no_object) for label in truth.labels[~is_found].tolist()]
    if len(ignored):
        covered = _intersections(predicted.boxes, np.asarray(ignored)).max(axis=1)
        is_matched |= 2 * covered >= _areas(predicted.boxes)
    return pairs + [(no_object, label) for label in predicted.labels[~is_matched].tolist()]


def _intersections(boxes: _Boxes, others: _Boxes) -> _Boxes:
    """Returns the area that each of `boxes`, ``(N, 4)``, shares with each of `others`, ``(M, 4)``."""
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    return np.maximum(sides, 0).prod(axis=2)  # type: ignore[no-any-return]


def _areas(boxes: _Boxes) -> _Boxes:
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)  # type: ignore[no-any-return]
