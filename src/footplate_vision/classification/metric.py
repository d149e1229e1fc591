"""Metrics for classification: accuracy, precision, recall, F1-score and the confusion matrix."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footplate.checks import check_choice, check_count
from footplate.errors import DataError
from footplate.evaluation import BaseMetric
from footplate.registry import METRICS
from footplate.visualization import as_array, canvas_to_image
from footplate_vision.metric_helpers import check_samples, record_matrix
from footplate_vision.panels import BLUE, ORANGE
from footplate_vision.task_base import check_classes, image_name

_logger = logging.getLogger("footplate.vision")
_ITEMS = ("precision", "recall", "f1-score", "support")
_Counts = NDArray[np.int64]
_MAX_DRAWN = 100  # classes for which a drawn matrix grows


def true_label(sample: Mapping[str, Any]) -> int:
    """Returns the true class of a sample.

    Raises:
        DataError: The sample does not have exactly one true class.
    """
    labels = as_array(sample["gt_label"]).reshape(-1).tolist() if "gt_label" in sample else []
    if len(labels) != 1:
        message = f"the number of true classes of {image_name(sample)} is {len(labels)}"
        raise DataError(f"{message}, but this metric needs exactly one", found=list(sample))
    return int(labels[0])


def predicted_label(sample: Mapping[str, Any], threshold: float | None = None) -> int:
    """Returns the class with the highest score, or -1 if this score does not exceed the threshold.

    If several classes tie for the highest score, returns the one with the lowest index. Without `pred_score`, returns
    the first class in `pred_label`.

    Raises:
        DataError: There is neither `pred_score` nor `pred_label`.
    """
    if "pred_score" in sample:
        scores = as_array(sample["pred_score"])
        label = int(scores.argmax())
        return label if threshold is None or scores[label] > threshold else -1
    if "pred_label" not in sample:
        message = f"the prediction for {image_name(sample)} has neither 'pred_score' nor 'pred_label'"
        raise DataError(message, found=sorted(map(str, sample)))
    return int(as_array(sample["pred_label"]).reshape(-1)[0])


def class_names(meta: Mapping[str, Any] | None, count: int) -> list[str]:
    """Returns the class names in `meta`, or class indices if `meta` does not have exactly `count` distinct names."""
    names = list(dict.fromkeys(map(str, (meta or {}).get("classes") or ())))
    return names if len(names) == count else [str(index) for index in range(count)]


def threshold_suffix(threshold: float | None, several: Sequence[float | None]) -> str:
    """Returns the suffix of metric names for a threshold, or "" if there is only one threshold."""
    if len(several) == 1:
        return ""
    return "_no-thr" if threshold is None else f"_thr-{threshold:.2f}"


def _warn_about_logits(metric: "Accuracy | LabelMetric", scores: Any) -> None:
    """Logs a warning if the default threshold rejects negative scores. Each metric warns once."""
    if not metric.has_warned and 0.0 in metric.thrs and scores.min() < 0:
        metric.has_warned = True
        _logger.warning(
            "%s counts predictions with negative scores as wrong, because thrs=0.0 expects probabilities. If the model "
            "returns logits, set thrs=None.",
            type(metric).__name__,
        )


def rank_of_truth(scores: Tensor, truth: Tensor) -> Tensor:
    """Returns how many classes rank above each sample's true class, as an int64 tensor of shape ``(N,)``.

    `scores` have shape ``(N, C)``, and `truth` has shape ``(N,)``. If two classes have equal scores, the one with the
    lower index ranks first.

    Example:
        >>> rank_of_truth(torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), torch.tensor([2, 1]))
        tensor([1, 1])
    """
    own = scores.gather(1, truth[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    before = (scores > own) | ((scores == own) & (classes < truth[:, None]))
    return before.sum(dim=1)


@METRICS.register_module()
class Accuracy(BaseMetric[tuple[int, float]]):
    """Top-k accuracy in percent, reported as `accuracy/top1` etc.

    If two classes have equal scores, the one with the lower index ranks first.

    Args:
        topk: One or more values of k.
        thrs: A prediction is correct only if the score of the true class exceeds this threshold; None for no threshold.
            With several thresholds, one value is reported for each: `top1_thr-0.50`, `top1_no-thr`.
        ignore_index: Samples with this class are ignored.
        settings: Arguments for `BaseMetric`.

    Raises:
        ArgumentError: A value of k is not positive, exceeds the number of classes, or exceeds 1 although a sample has
            no scores.
        DataError: A sample has no prediction, does not have exactly one true class, or has a class out of range.
    """

    default_prefix = "accuracy"
    has_warned = False

    def __init__(
        self,
        topk: int | Sequence[int] = (1,),
        thrs: float | None | Sequence[float | None] = 0.0,
        *,
        ignore_index: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.topk = tuple(check_count("topk", k) for k in np.atleast_1d(topk))
        self.thrs = tuple(np.array(thrs, object, ndmin=1))
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Records the rank and the score of each sample's true class.

        The rank is the number of classes that score higher than the true class, or -1 if the sample is ignored. Without
        scores, the rank is 0 for a correct prediction and 1 for a wrong prediction.
        """
        check_samples(self, data_samples)
        for sample in data_samples:
            truth = true_label(sample)
            if truth == self.ignore_index:
                self.results.append((-1, 0.0))
            elif "pred_score" in sample:
                scores, label = torch.from_numpy(as_array(sample["pred_score"])), torch.tensor([truth])
                check_count("topk", max(self.topk), most=len(scores))
                check_classes("ground truth", label, len(scores))
                self.results.append((int(rank_of_truth(scores[None], label)), float(scores[truth])))
                _warn_about_logits(self, scores)
            else:
                check_count("topk without scores", max(self.topk), most=1, key="topk")
                self.results.append((int(truth != predicted_label(sample)), np.inf))

    def compute_metrics(self, results: list[tuple[int, float]]) -> dict[str, float]:
        """Returns a dict of accuracies in percent, which are NaN if all samples are ignored."""
        ranks, scores = np.array([result for result in results if result[0] >= 0]).reshape(-1, 2).T
        values = {}
        for k in self.topk:
            for threshold in self.thrs:
                right = (ranks < k) & (scores > (-np.inf if threshold is None else threshold))
                share = right.mean() if len(right) else np.nan
                values[f"top{k}{threshold_suffix(threshold, self.thrs)}"] = 100 * float(share)
        return values


class LabelMetric(BaseMetric[tuple[int, ...]]):
    """The base class for metrics that compare each sample's true class with its predicted class.

    Each result contains the number of classes, the true class and, for each threshold, the predicted class (-1 for no
    prediction).

    Args:
        num_classes: The number of classes; by default, taken from the scores or the dataset.
        ignore_index: Samples with this class are ignored.
        settings: Arguments for `BaseMetric`.
    """

    thrs: tuple[float | None, ...] = (None,)
    has_warned = False

    def __init__(self, num_classes: int | None = None, *, ignore_index: int | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Records the true and the predicted class of each sample."""
        check_samples(self, data_samples)
        count = self._class_count(data_samples)
        for sample in data_samples:
            if "pred_score" in sample:
                _warn_about_logits(self, as_array(sample["pred_score"]))
            predicted = (predicted_label(sample, threshold) for threshold in self.thrs)
            self.results.append((count, true_label(sample), *predicted))

    def _class_count(self, samples: Sequence[Mapping[str, Any]]) -> int:
        """Returns `num_classes` or else the number of scores. Without scores, returns the number of class names.

        Raises:
            DataError: The number is unknown, or the samples of the batch have another number of scores.
        """
        counts = {len(sample["pred_score"]) for sample in samples if "pred_score" in sample}
        if self.num_classes is not None:
            counts.add(self.num_classes)
        elif not counts:
            counts.add(len((self.dataset_meta or {}).get("classes") or ()))
        if len(counts) > 1 or 0 in counts:
            problem = "num_classes and the numbers of predicted scores must be equal"
            raise DataError(
                problem if len(counts) > 1 else "the number of classes is unknown",
                key="num_classes",
                found=sorted(counts),
                notes=["Set num_classes to the number of classes that the model predicts."],
            )
        return counts.pop()

    def labels(self, results: list[tuple[int, ...]]) -> tuple[_Counts, list[_Counts]]:
        """Returns true classes ``(N,)`` and, for each threshold, predicted classes ``(N,)``.

        Leaves out samples with the class `ignore_index`.
        """
        rows = [row[1:] for row in results if row[1] != self.ignore_index]
        truth, *predicted = np.array(rows, dtype=np.int64).reshape(-1, 1 + len(self.thrs)).T
        return truth, predicted


@METRICS.register_module()
class SingleLabelMetric(LabelMetric):
    """Precision, recall and F1-score in percent, and support, reported as `single-label/precision` etc.

    A class without predictions has precision 0, and a class without samples has recall 0. Both are included in the
    averages.

    Args:
        thrs: A prediction counts only if its score exceeds this threshold; None for no threshold. With several
            thresholds, separate values are reported: `precision_thr-0.50`.
        items: The values to report: "precision", "recall", "f1-score", "support".
        average: "macro" for the mean over classes, "micro" for the value over all samples (`precision_micro`), or None
            for a list of one value per class (`precision_classwise`).
        num_classes: The number of classes; by default, taken from the scores or the dataset.
        settings: `ignore_index` (samples with this class are ignored), and arguments for `BaseMetric`.

    Raises:
        ArgumentError: An item or the average is unknown.
        DataError: A class is out of range, a sample does not have exactly one true class, or the number of classes is
            unknown.
    """

    default_prefix = "single-label"

    def __init__(
        self,
        thrs: float | None | Sequence[float | None] = 0.0,
        items: Sequence[str] = ("precision", "recall", "f1-score"),
        average: Literal["macro", "micro"] | None = "macro",
        num_classes: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(num_classes, **settings)
        self.items = tuple(check_choice("items", item, _ITEMS) for item in items)
        if average is not None:
            check_choice("average", average, ("macro", "micro"))
        self.thrs = tuple(np.array(thrs, object, ndmin=1))
        self.average = average

    def compute_metrics(self, results: list[tuple[int, ...]]) -> dict[str, Any]:
        """Returns the values in `items` for each threshold, and records the per-class results."""
        truth, predictions = self.labels(results)
        count = results[0][0]
        values: dict[str, Any] = {}
        for threshold, predicted in zip(self.thrs, predictions, strict=True):
            suffix = threshold_suffix(threshold, self.thrs)
            per_class = precision_recall_f1(predicted, truth, count, None)
            self.record_per_class(f"single-label{suffix}", class_names(self.dataset_meta, count), per_class)
            averages = precision_recall_f1(predicted, truth, count, self.average)
            suffix += {None: "_classwise", "micro": "_micro"}.get(self.average, "")
            values |= {f"{item}{suffix}": averages[item] for item in _ITEMS if item in self.items}
        return values


def precision_recall_f1(
    predicted: _Counts, truth: _Counts, num_classes: int, average: Literal["macro", "micro"] | None
) -> dict[str, Any]:
    """Returns "precision", "recall" and "f1-score" in percent, and "support", as numbers or as per-class lists.

    Args:
        predicted: The predicted classes, ``(N,)``, or -1 for no prediction.
        truth: The true classes, ``(N,)``.
        num_classes: The number of classes.
        average: See `SingleLabelMetric`.

    Raises:
        DataError: A class is out of range.
    """
    check_classes("ground truth", truth, num_classes)
    check_classes("prediction", predicted, num_classes, ignored=-1)
    right = np.bincount(truth[truth == predicted], minlength=num_classes)
    claimed = np.bincount(predicted[predicted >= 0], minlength=num_classes)
    support = np.bincount(truth, minlength=num_classes)
    if average == "micro":
        right, claimed, support = (each.sum(keepdims=True) for each in (right, claimed, support))
    columns = {
        "precision": 100 * right / np.maximum(claimed, 1),
        "recall": 100 * right / np.maximum(support, 1),
        "f1-score": 200 * right / np.maximum(claimed + support, 1),
        "support": support,
    }
    if average is None:
        return {name: column.tolist() for name, column in columns.items()}
    return {name: float(column.mean()) for name, column in columns.items()} | {"support": int(support.sum())}


@METRICS.register_module()
class ConfusionMatrix(LabelMetric):
    """The confusion matrix, reported as `confusion_matrix/result`: an int64 tensor of shape ``(C, C)``.

    Rows are true classes, columns are predicted classes. A matrix with up to 100 classes is also written to the run's
    per-class results.

    Args:
        num_classes: The number of classes; by default, taken from the scores or the dataset.
        ignore_index: Samples with this class are ignored.
        settings: Arguments for `BaseMetric`.

    Raises:
        DataError: A class is out of range, a sample does not have exactly one true class, or the number of classes is
            unknown.
    """

    default_prefix = "confusion_matrix"

    def compute_metrics(self, results: list[tuple[int, ...]]) -> dict[str, Tensor]:
        """Returns the matrix under the key `result`. Records per-class results if there are at most 100 classes."""
        truth, (predicted,) = self.labels(results)
        matrix = self.calculate(predicted, truth, results[0][0])
        record_matrix(self, class_names(self.dataset_meta, len(matrix)), matrix)
        return {"result": matrix}

    @staticmethod
    def calculate(pred: Tensor | NDArray[np.int64], target: Tensor | NDArray[np.int64], num_classes: int) -> Tensor:
        """Returns the confusion matrix as an int64 tensor of shape ``(num_classes, num_classes)``.

        `pred` and `target` have shape ``(N,)``. Raises a DataError if a class is out of range.
        """
        predicted, truth = torch.as_tensor(pred).long(), torch.as_tensor(target).long()
        check_classes("ground truth", truth, num_classes)
        check_classes("prediction", predicted, num_classes)
        cells = torch.bincount(truth * num_classes + predicted, minlength=num_classes**2)
        return cells.reshape(num_classes, num_classes)

    @staticmethod
    def plot(confusion_matrix: Tensor | NDArray[Any], classes: Sequence[str] | None = None) -> NDArray[np.uint8]:
        """Draws a confusion matrix and returns it as a uint8 RGB image of shape ``(H, W, 3)``.

        Cells on the diagonal are blue, others are orange. The color intensity shows a cell's fraction of its row.

        Args:
            confusion_matrix: ``(C, C)``, with true classes as rows and predicted classes as columns.
            classes: The names of the classes; class indices by default.
        """
        matrix = np.asarray(confusion_matrix)
        count = len(matrix)
        names = list(map(str, range(count) if classes is None else classes))
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # imported late: takes half a second
        from matplotlib.figure import Figure

        shares = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1))[..., None]
        hues = np.where(np.eye(count, dtype=bool)[..., None], BLUE, ORANGE)
        side = 2 + 0.4 * min(count, _MAX_DRAWN)
        figure = Figure((side, side), layout="constrained")
        axes = figure.add_subplot(xlabel="predicted", ylabel="true")
        axes.imshow(np.rint(255 + shares * (hues - 255)).astype(np.uint8))
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
        for row, column in np.argwhere(matrix):
            ink = "white" if shares[row, column, 0] > 0.55 else "black"
            axes.text(column, row, str(matrix[row, column]), color=ink, ha="center", va="center")
        return canvas_to_image(FigureCanvasAgg(figure))
