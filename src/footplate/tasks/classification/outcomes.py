"""What metrics of classification read from samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from footplate.errors import ArgumentError, DataError
from footplate.visualization import as_array

Thresholds = Sequence[float | None] | float | None


def true_label(sample: Mapping[str, Any]) -> int:
    """Returns the class of a sample.

    Raises:
        DataError: It has none, or several.
    """
    labels = as_array(sample["gt_label"]).reshape(-1).tolist() if "gt_label" in sample else []
    if len(labels) != 1:
        where = sample.get("img_path", "a picture")
        raise DataError(f"'{where}' has {len(labels)} true classes, this metric takes one", found=list(sample))
    return int(labels[0])


def predicted_label(sample: Mapping[str, Any], threshold: float | None = None) -> int:
    """Returns the class of the highest score, of equal ones the lowest; -1 where it is not above the threshold.

    Without `pred_score` it is `pred_label`.

    Raises:
        DataError: It has neither.
    """
    if "pred_score" not in sample:
        return int(predicted_labels(sample)[0])
    scores = as_array(sample["pred_score"])
    label = int(scores.argmax())
    return label if threshold is None or scores[label] > threshold else -1


def predicted_labels(sample: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Returns `pred_label`, `(N,)`.

    Raises:
        DataError: It is not there.
    """
    if "pred_label" not in sample:
        where = sample.get("img_path", "a picture")
        raise DataError(f"the model predicted no class for '{where}'", found=sorted(map(str, sample)))
    return as_array(sample["pred_label"]).reshape(-1)


def class_count(samples: Sequence[Mapping[str, Any]], given: int | None, meta: Mapping[str, Any] | None) -> int:
    """Returns how many classes there are: as given, as scores tell, or as the data set tells.

    Raises:
        DataError: Nothing tells, or scores tell otherwise.
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


def check_classes(name: str, labels: Tensor | npt.NDArray[np.int64], num_classes: int, *, least: int = 0) -> None:
    """Refuses a class that there is not.

    Args:
        name: What the labels are, "truth" or "prediction".
        labels: ``(N,)``, whole numbers.
        num_classes: How many classes there are.
        least: The lowest label that has a meaning.

    Raises:
        DataError: A label is below `least`, or `num_classes` and more.
    """
    outside = labels[(labels < least) | (labels >= num_classes)]
    if len(outside):
        raise DataError(f"the {name} holds class {int(outside[0])}, there are {num_classes}", found=int(outside[0]))


def check_thresholds(thrs: Thresholds) -> tuple[float | None, ...]:
    """Returns one threshold or several as a tuple.

    Raises:
        ArgumentError: There is none, or one is neither a number nor None.
    """
    several = tuple(thrs) if isinstance(thrs, (list, tuple)) else (thrs,)
    if not several or not all(each is None or isinstance(each, (int, float)) for each in several):
        raise ArgumentError("a threshold is a number or None", key="thrs", found=thrs)
    return several


def threshold_suffix(threshold: float | None, several: Sequence[float | None]) -> str:
    """Returns what tells the values of several thresholds apart."""
    if len(several) == 1:
        return ""
    return "_no-thr" if threshold is None else f"_thr-{threshold:.2f}"
