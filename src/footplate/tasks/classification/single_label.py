"""Precision, recall, F1-score and support of classes."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric, check_samples
from footplate.messages import nearest
from footplate.registry import METRICS
from footplate.tasks.classification.outcomes import (
    check_classes,
    check_thresholds,
    class_count,
    predicted_label,
    threshold_suffix,
    true_label,
)

_ITEMS = ("precision", "recall", "f1-score", "support")
_Counts = npt.NDArray[np.int64]


class Outcome(NamedTuple):
    """The class of one picture and what was predicted under each threshold, -1 for nothing."""

    truth: int
    predicted: tuple[int, ...]
    num_classes: int


@METRICS.register_module()
class SingleLabelMetric(BaseMetric[Outcome]):
    """Precision, recall and F1-score in percent, and support: `single-label/precision` ...

    A class that is never predicted has precision 0, one that is never true has recall 0; both enter the means.

    Args:
        thrs: A prediction counts only where its score is above this; None for no threshold. Of several, each gives
            values of its own: `precision_thr-0.50`.
        items: Which values: "precision", "recall", "f1-score", "support".
        average: "macro", the mean over classes; "micro", over all pictures at once (`precision_micro`); None, a
            list of one value a class (`precision_classwise`).
        num_classes: How many classes there are; told by scores or by the data set where it is not given.
        collect_device: As of every metric.
        prefix: Put before the names of the values.
        ignore_index: Pictures whose class is this do not count.

    Raises:
        ArgumentError: There is no such value or average.
        DataError: A class is out of range, or a picture has no truth or several.
    """

    default_prefix = "single-label"

    def __init__(
        self,
        thrs: float | None | Sequence[float | None] = 0.0,
        items: Sequence[str] = ("precision", "recall", "f1-score"),
        average: Literal["macro", "micro"] | None = "macro",
        num_classes: int | None = None,
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        for item in items:
            if item not in _ITEMS:
                raise ArgumentError("unknown value", key="items", found=item, suggestion=nearest(item, _ITEMS))
        if average not in ("macro", "micro", None):
            raise ArgumentError("average is 'macro', 'micro' or None", key="average", found=average)
        self.thrs = check_thresholds(thrs)
        self.items = tuple(items)
        self.average = average
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keeps truth and prediction of each sample."""
        check_samples(self, data_samples)
        count = class_count(data_samples, self.num_classes, self.dataset_meta)
        for sample in data_samples:
            predicted = tuple(predicted_label(sample, threshold) for threshold in self.thrs)
            self.results.append(Outcome(true_label(sample), predicted, count))

    def compute_metrics(self, results: list[Outcome]) -> dict[str, Any]:
        """Returns the values by name."""
        counted = [each for each in results if each.truth != self.ignore_index]
        truth = np.array([each.truth for each in counted], dtype=np.int64)
        values: dict[str, Any] = {}
        for place, threshold in enumerate(self.thrs):
            predicted = np.array([each.predicted[place] for each in counted], dtype=np.int64)
            found = precision_recall_f1(predicted, truth, results[0].num_classes, self.average)
            suffix = threshold_suffix(threshold, self.thrs) + {None: "_classwise", "micro": "_micro"}.get(
                self.average, ""
            )
            values |= {f"{item}{suffix}": found[item] for item in _ITEMS if item in self.items}
        return values


def precision_recall_f1(
    predicted: _Counts, truth: _Counts, num_classes: int, average: Literal["macro", "micro"] | None = "macro"
) -> dict[str, Any]:
    """Returns "precision", "recall", "f1-score" in percent and "support": numbers, or lists of one a class.

    Args:
        predicted: ``(N,)``, whole numbers from 0 to `num_classes` - 1, or -1 where nothing is predicted.
        truth: ``(N,)``, the same without -1.
        num_classes: How many classes there are.
        average: As of `SingleLabelMetric`.

    Raises:
        DataError: A class is out of range.
    """
    check_classes("truth", truth, num_classes)
    check_classes("prediction", predicted, num_classes, least=-1)
    right = np.bincount(truth[truth == predicted], minlength=num_classes)
    claimed = np.bincount(predicted[predicted >= 0], minlength=num_classes)
    support = np.bincount(truth, minlength=num_classes)
    if average == "micro":
        right, claimed, support = (each.sum(keepdims=True) for each in (right, claimed, support))
    columns = {
        "precision": 100 * right / np.maximum(claimed, 1),
        "recall": 100 * right / np.maximum(support, 1),
        "f1-score": 200 * right / np.maximum(claimed + support, 1),
    }
    if average is None:
        return {name: column.tolist() for name, column in columns.items()} | {"support": support.tolist()}
    return {name: float(column.mean()) for name, column in columns.items()} | {"support": int(support.sum())}
