"""IoU, Dice and F-score over a dataset."""

import logging
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from footplate.errors import ArgumentError, DataError
from footplate.evaluation import BaseMetric, check_samples
from footplate.messages import nearest
from footplate.registry import METRICS
from footplate.storage import commit_image
from footplate.tasks.segmentation.table import format_table
from footplate.visualization import as_array

_logger = logging.getLogger("footplate.tasks")
_Values = npt.NDArray[np.float64]
_KINDS = ("mIoU", "mDice", "mFscore")


class Areas(NamedTuple):
    """The number of pixels of each class, ``(C,)`` each, int64."""

    intersect: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]


@METRICS.register_module()
class IoUMetric(BaseMetric[Areas]):
    """Mean IoU, Dice and F-score over classes, in percent, computed from the pixels of the whole dataset.

    A class without true or predicted pixels has no value and is excluded from the means.

    Args:
        ignore_index: Pixels with this label are ignored.
        iou_metrics: The values to report: "mIoU" (with mAcc), "mDice" (with mAcc), "mFscore" (with mPrecision and
            mRecall). aAcc, the pixel accuracy, is always reported.
        nan_to_num: The replacement of undefined values, as a fraction.
        beta: The weight of recall relative to precision in the F-score.
        collect_device: See `BaseMetric`.
        output_dir: The folder for predictions as PNG files, named after `img_path`.
        format_only: Whether to only write predictions, without computing metrics.
        prefix: The prefix of the metric names.
        classwise: Whether to also report the value of every class, such as `IoU.dress`.

    Raises:
        ArgumentError: A metric is unknown, or `format_only` is set without `output_dir`.
        DataError: From `process`: ground truth and prediction differ in size, or a class is out of range.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        iou_metrics: Sequence[str] = ("mIoU",),
        nan_to_num: float | None = None,
        beta: float = 1.0,
        collect_device: Literal["cpu", "gpu"] = "cpu",
        output_dir: str | None = None,
        format_only: bool = False,
        prefix: str | None = None,
        *,
        classwise: bool = False,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if isinstance(iou_metrics, str):
            raise ArgumentError("iou_metrics must be a list of names", key="iou_metrics", found=iou_metrics)
        for name in iou_metrics:
            if name not in _KINDS:
                raise ArgumentError("unknown value", key="iou_metrics", found=name, suggestion=nearest(name, _KINDS))
        if format_only and output_dir is None:
            raise ArgumentError("format_only needs an output_dir", key="format_only")
        self.ignore_index = ignore_index
        self.iou_metrics = tuple(iou_metrics)
        self.nan_to_num = nan_to_num
        self.beta = beta
        self.output_dir = output_dir
        self.format_only = format_only
        self.classwise = classwise

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Counts the pixels of each sample."""
        check_samples(self, data_samples, "pred_sem_seg", *([] if self.format_only else ["gt_sem_seg"]))
        for sample in data_samples:
            predicted = as_array(sample["pred_sem_seg"]["data"]).squeeze(0)
            if self.output_dir is not None:
                _write_classes(predicted, self.output_dir, sample["img_path"])
            if not self.format_only:
                truth = as_array(sample["gt_sem_seg"]["data"]).squeeze(0)
                where = str(sample.get("img_path", ""))
                self.results.append(count_areas(predicted, truth, len(self._classes), self.ignore_index, where=where))

    def evaluate(self, size: int) -> dict[str, Any]:
        """Returns the values; empty with `format_only`."""
        return {} if self.format_only else super().evaluate(size)

    def added(self, one: Areas, other: Areas) -> Areas:
        """Returns the sum of the pixel counts."""
        return Areas(*(first + second for first, second in zip(one, other, strict=True)))

    def compute_metrics(self, results: list[Areas]) -> dict[str, float]:
        """Returns the means by name, and logs the per-class results."""
        areas = Areas(*(np.sum(column, axis=0) for column in zip(*results, strict=True)))
        columns = self._columns(areas)
        self.record_per_class("IoU", self._classes, columns)
        _logger.info("%sper class, in percent:\n%s", self.title, format_table("class", self._classes, columns))
        with np.errstate(invalid="ignore"):
            accuracy = float(np.divide(areas.intersect.sum(), areas.true.sum()))
        values = {"aAcc": 100 * accuracy}
        values |= {f"m{name}": _mean(column) for name, column in columns.items()}
        if self.classwise:
            for name, column in columns.items():
                values |= {f"{name}.{label}": float(v) for label, v in zip(self._classes, column, strict=True)}
        return values

    @property
    def _classes(self) -> tuple[str, ...]:
        classes = (self.dataset_meta or {}).get("classes")
        if not classes:
            raise DataError("IoUMetric needs the classes of the dataset", notes=["metainfo has no 'classes'"])
        return tuple(str(name) for name in classes)

    def _columns(self, areas: Areas) -> dict[str, _Values]:
        """Returns the per-class values in percent, by name without the leading m."""
        makers: dict[str, Callable[[Areas], dict[str, _Values]]] = {
            "mIoU": _iou,
            "mDice": _dice,
            "mFscore": lambda counted: _fscore(counted, self.beta),
        }
        columns: dict[str, _Values] = {}
        for name in self.iou_metrics:
            columns |= makers[name](areas)
        if self.nan_to_num is not None:
            return {name: np.nan_to_num(100 * column, nan=100 * self.nan_to_num) for name, column in columns.items()}
        return {name: 100 * column for name, column in columns.items()}


def count_areas(
    predicted: npt.NDArray[Any], truth: npt.NDArray[Any], num_classes: int, ignore_index: int, *, where: str = ""
) -> Areas:
    """Counts the pixels of each class, excluding those with the true label `ignore_index`.

    Args:
        predicted: ``(H, W)``, integers from 0 to `num_classes` - 1.
        truth: ``(H, W)``, the same, or `ignore_index`.
        num_classes: The number of classes.
        ignore_index: The label of ignored pixels.
        where: The name of the image, for messages.

    Raises:
        DataError: Prediction and ground truth differ in size, or a class is out of range.
    """
    if predicted.shape != truth.shape:
        raise DataError(f"truth {truth.shape} and prediction {predicted.shape} differ in size", found=where)
    counted = truth != ignore_index
    predicted, truth = predicted[counted].astype(np.int64), truth[counted].astype(np.int64)
    for name, values in (("truth", truth), ("prediction", predicted)):
        outside = values[(values < 0) | (values >= num_classes)]
        if outside.size:
            raise DataError(f"the {name} of '{where}' holds class {outside[0]}, there are {num_classes}", found=where)
    return Areas(
        np.bincount(truth[truth == predicted], minlength=num_classes),
        np.bincount(predicted, minlength=num_classes),
        np.bincount(truth, minlength=num_classes),
    )


def _iou(areas: Areas) -> dict[str, _Values]:
    union = areas.predicted + areas.true - areas.intersect
    return {"IoU": _share(areas.intersect, union), "Acc": _share(areas.intersect, areas.true)}


def _dice(areas: Areas) -> dict[str, _Values]:
    both = areas.predicted + areas.true
    return {"Dice": _share(2 * areas.intersect, both), "Acc": _share(areas.intersect, areas.true)}


def _fscore(areas: Areas, beta: float) -> dict[str, _Values]:
    """Returns F-score, precision and recall; `beta` is the weight of recall in the F-score."""
    weight = beta**2
    fscore = _share((1 + weight) * areas.intersect, areas.predicted + weight * areas.true)
    precision, recall = _share(areas.intersect, areas.predicted), _share(areas.intersect, areas.true)
    return {"Fscore": fscore, "Precision": precision, "Recall": recall}


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> _Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: _Values = np.true_divide(part, whole)
    return found


def _mean(values: _Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _write_classes(classes: npt.NDArray[Any], folder: str, img_path: str) -> None:
    name = os.path.splitext(os.path.basename(img_path))[0] + ".png"
    commit_image(os.path.join(folder, name), Image.fromarray(classes.astype(np.uint8)))
