"""Precision, recall, F1-score and support per class."""

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
    class_names,
    predicted_label,
    threshold_suffix,
    true_label,
)

_ITEMS = ("precision", "recall", "f1-score", "support")
_Counts = npt.NDArray[np.int64]


class Outcome(NamedTuple):
    """The true class of one sample and the predicted class for each threshold, -1 for no prediction."""

    truth: int
    predicted: tuple[int, ...]
    num_classes: int


@METRICS.register_module()
class SingleLabelMetric(BaseMetric[Outcome]):
    """Precision, recall and F1-score in percent, and support, reported as `single-label/precision` etc.

    A class without predictions has precision 0, and a class without samples has recall 0. Both count in the means.

    Args:
        thrs: A prediction counts only if its score exceeds this threshold; None for no threshold. Several thresholds
            give separate values: `precision_thr-0.50`.
        items: The values to report: "precision", "recall", "f1-score", "support".
        average: "macro" for the mean over classes, "micro" for the value over all samples (`precision_micro`), None for
            a list of one value per class (`precision_classwise`).
        num_classes: The number of classes; by default that of the scores or of the dataset.
        collect_device: See `BaseMetric`.
        prefix: The prefix of the metric names.
        ignore_index: Samples with this class are ignored.

    Raises:
        ArgumentError: An item or the average is unknown.
        DataError: A class is out of range, or a sample does not have exactly one true class.
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
        """Records the true and the predicted class of each sample."""
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
            count, suffix = results[0].num_classes, threshold_suffix(threshold, self.thrs)
            per_class = precision_recall_f1(predicted, truth, count, None)
            self.record_per_class(f"single-label{suffix}", class_names(self.dataset_meta, count), per_class)
            found = precision_recall_f1(predicted, truth, count, self.average)
            suffix += {None: "_classwise", "micro": "_micro"}.get(self.average, "")
            values |= {f"{item}{suffix}": found[item] for item in _ITEMS if item in self.items}
        return values


def precision_recall_f1(
    predicted: _Counts, truth: _Counts, num_classes: int, average: Literal["macro", "micro"] | None = "macro"
) -> dict[str, Any]:
    """Returns "precision", "recall", "f1-score" in percent and "support", as numbers or as lists over classes.

    Args:
        predicted: ``(N,)``, integers from 0 to `num_classes` - 1, or -1 for no prediction.
        truth: ``(N,)``, integers from 0 to `num_classes` - 1.
        num_classes: The number of classes.
        average: See `SingleLabelMetric`.

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
