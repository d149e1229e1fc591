"""Intersection over union and its kin, over a whole data set."""

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
    """How many pixels each class has, ``(C,)`` each, int64."""

    intersect: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]


@METRICS.register_module()
class IoUMetric(BaseMetric[Areas]):
    """Mean intersection over union, Dice and F-score over classes, in percent, from pixels of the whole data set.

    A class that is neither predicted nor true anywhere has no value and is left out of the means.

    Args:
        ignore_index: Pixels whose truth is this label do not count.
        iou_metrics: Which values: "mIoU" (with mAcc), "mDice" (with mAcc), "mFscore" (with mPrecision, mRecall).
            aAcc, the share of right pixels, is always there.
        nan_to_num: What stands in for a class without a value.
        beta: How many times as much recall weighs in the F-score as precision.
        collect_device: As of every metric.
        output_dir: Where predictions are written as PNG, one a sample, named after `img_path`.
        format_only: Write predictions and compute nothing.
        prefix: Put before the names of the values.
        classwise: Also give the value of every class: `IoU.dress`.

    Raises:
        ArgumentError: An unknown value is asked for, or `format_only` has no `output_dir`.
        DataError: From `process`: truth and prediction differ in size, or the truth holds a class outside of the
            range.
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
        """Returns the values; none where predictions were only written."""
        return {} if self.format_only else super().evaluate(size)

    def added(self, one: Areas, other: Areas) -> Areas:
        """Returns the pixels of both."""
        return Areas(*(first + second for first, second in zip(one, other, strict=True)))

    def compute_metrics(self, results: list[Areas]) -> dict[str, float]:
        """Returns the means by name and logs the table of classes."""
        areas = Areas(*(np.sum(column, axis=0) for column in zip(*results, strict=True)))
        columns = self._columns(areas)
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
            raise DataError("IoUMetric needs the classes of the data set", notes=["metainfo has no 'classes'"])
        return tuple(str(name) for name in classes)

    def _columns(self, areas: Areas) -> dict[str, _Values]:
        """The values of each class in percent, by name without the m of a mean."""
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
    """Counts the pixels of each class, those left out whose truth is `ignore_index`.

    Args:
        predicted: ``(H, W)``, whole numbers from 0 to `num_classes` - 1.
        truth: ``(H, W)``, the same, or `ignore_index`.
        num_classes: How many classes there are.
        ignore_index: The label to leave out.
        where: The picture's name, for messages.

    Raises:
        DataError: The two differ in size, or hold a class outside of the range.
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
    """Weighted harmonic mean of precision and recall, of which beta counts as many times."""
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
