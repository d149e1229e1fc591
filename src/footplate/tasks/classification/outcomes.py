"""Helpers of the classification metrics to read labels and scores from samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from footplate.errors import ArgumentError, DataError
from footplate.visualization import as_array

Thresholds = Sequence[float | None] | float | None


def true_label(sample: Mapping[str, Any]) -> int:
    """Returns the true class of a sample.

    Raises:
        DataError: The sample does not have exactly one true class.
    """
    labels = as_array(sample["gt_label"]).reshape(-1).tolist() if "gt_label" in sample else []
    if len(labels) != 1:
        where = sample.get("img_path", "a picture")
        raise DataError(f"'{where}' has {len(labels)} true classes, this metric takes one", found=list(sample))
    return int(labels[0])


def predicted_label(sample: Mapping[str, Any], threshold: float | None = None) -> int:
    """Returns the class with the highest score, or -1 if this score does not exceed the threshold.

    Of equal scores, the lowest class is chosen. Without `pred_score`, returns `pred_label`.

    Raises:
        DataError: The sample has neither `pred_score` nor `pred_label`.
    """
    if "pred_score" not in sample:
        return int(predicted_labels(sample)[0])
    scores = as_array(sample["pred_score"])
    label = int(scores.argmax())
    return label if threshold is None or scores[label] > threshold else -1


def predicted_labels(sample: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Returns `pred_label`, `(N,)`.

    Raises:
        DataError: The sample has no `pred_label`.
    """
    if "pred_label" not in sample:
        where = sample.get("img_path", "a picture")
        raise DataError(f"the model predicted no class for '{where}'", found=sorted(map(str, sample)))
    return as_array(sample["pred_label"]).reshape(-1)


def class_count(samples: Sequence[Mapping[str, Any]], given: int | None, meta: Mapping[str, Any] | None) -> int:
    """Returns the number of classes: the given one, that of the scores, or that of the dataset.

    Raises:
        DataError: The number is unknown, or the scores do not match it.
    """
    scored = {len(sample["pred_score"]) for sample in samples if "pred_score" in sample}
    known = ({given} if given is not None else set()) | scored
    if len(known) > 1:
        raise DataError(f"scores are of {sorted(scored)} classes", key="num_classes", found=given)
    if known:
        return known.pop()
    classes = (meta or {}).get("classes")
    if not classes:
        raise DataError("how many classes there are is not known", key="num_classes", notes=["num_classes=... tells"])
    return len(classes)


def class_names(meta: Mapping[str, Any] | None, count: int) -> list[str]:
    """Returns the names of the classes of a dataset, or their indices if `meta` has no `count` different names."""
    names = list(dict.fromkeys(map(str, (meta or {}).get("classes") or ())))
    return names if len(names) == count else [str(index) for index in range(count)]


def check_classes(name: str, labels: Tensor | npt.NDArray[np.int64], num_classes: int, *, least: int = 0) -> None:
    """Raises an error if a label is out of range.

    Args:
        name: The kind of labels, "ground truth" or "prediction", for messages.
        labels: ``(N,)``, integers.
        num_classes: The number of classes.
        least: The lowest valid label.

    Raises:
        DataError: A label is below `least`, or not below `num_classes`.
    """
    outside = labels[(labels < least) | (labels >= num_classes)]
    if len(outside):
        raise DataError(f"the {name} holds class {int(outside[0])}, there are {num_classes}", found=int(outside[0]))


def check_thresholds(thrs: Thresholds) -> tuple[float | None, ...]:
    """Validates one or several thresholds, and returns them as a tuple.

    Raises:
        ArgumentError: The list is empty, or a threshold is neither a number nor None.
    """
    several = tuple(thrs) if isinstance(thrs, (list, tuple)) else (thrs,)
    if not several or not all(each is None or isinstance(each, (int, float)) for each in several):
        raise ArgumentError("a threshold is a number or None", key="thrs", found=thrs)
    return several


def threshold_suffix(threshold: float | None, several: Sequence[float | None]) -> str:
    """Returns the suffix of metric names for a threshold; empty if there is only one."""
    if len(several) == 1:
        return ""
    return "_no-thr" if threshold is None else f"_thr-{threshold:.2f}"
