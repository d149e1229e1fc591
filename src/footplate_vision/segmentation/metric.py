"""Computes IoU, Dice, F-score and the confusion matrix over a dataset."""

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from footplate.checks import check_choice, check_names
from footplate.errors import ArgumentError, DataError
from footplate.evaluation import BaseMetric
from footplate.messages import list_names
from footplate.registry import METRICS
from footplate.storage import commit_image
from footplate.visualization import as_array
from footplate_vision.metric_helpers import check_samples, format_table, record_matrix, required_classes
from footplate_vision.task_base import check_classes
from footplate_vision.visualization import ImageNames

_logger = logging.getLogger("footplate.vision")
_Values = NDArray[np.float64]
_Counts = NDArray[np.int64]
_MAX_NAMES = 10
_KINDS = ("mIoU", "mDice", "mFscore")


@METRICS.register_module()
class IoUMetric(BaseMetric[_Counts]):
    """Mean IoU, Dice and F-score over classes, in percent, computed from the pixels of the whole dataset.

    Undefined values are excluded from the means, as in MMSegmentation. For a class with neither ground-truth nor
    predicted pixels, IoU and Dice are undefined. Accuracy and recall are undefined without ground truth, and precision
    is undefined if the class is never predicted. The F-score is undefined if precision or recall is undefined, or both
    are 0. A class that is predicted but does not occur in the ground truth has an IoU of 0.

    The confusion matrix of up to 100 classes, in pixels, is added to the run's per-class results.

    Args:
        ignore_index: Pixels with this label are ignored.
        iou_metrics: One or more values to report: "mIoU" (with mAcc), "mDice" (with mAcc), "mFscore" (with mPrecision
            and mRecall). aAcc, the pixel accuracy, is always reported.
        nan_to_num: The value that replaces undefined values, as a fraction.
        output_dir: The folder, relative to the current folder, for predictions as PNG files named after `img_path`. If
            there are several datasets, each has a subfolder. With `reduce_zero_label`, the classes begin at 1, as in
            the annotation files.
        format_only: Whether to only write predictions, without computing metrics.
        classwise: Whether to also report the values of each class, such as `IoU.dress`.
        settings: Arguments for `BaseMetric`.

    Raises:
        ArgumentError: A metric is unknown, or `format_only` is set without `output_dir`.
        DataError: In `process`, the ground truth and the prediction differ in size, or a class is out of range.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        iou_metrics: str | Sequence[str] = ("mIoU",),
        nan_to_num: float | None = None,
        *,
        output_dir: str | None = None,
        format_only: bool = False,
        classwise: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if format_only and output_dir is None:
            raise ArgumentError("format_only requires output_dir", key="format_only")
        self.ignore_index = ignore_index
        self.iou_metrics = tuple(
            check_choice("iou_metrics", name, _KINDS) for name in check_names("iou_metrics", iou_metrics)
        )
        self.nan_to_num = nan_to_num
        self.output_dir = output_dir
        self._names = ImageNames()
        self.format_only = format_only
        self.classwise = classwise
        self._missing: list[str] = []  # the classes that the last mFscore excluded

    def attach(self, dataset: Any) -> None:
        """Names the files in the order of the dataset, so that the names do not depend on the number of processes."""
        if self.output_dir is not None and hasattr(dataset, "get_data_info"):
            records = map(dataset.get_data_info, range(len(dataset)))
            self._names = ImageNames(record["img_path"] for record in records if "img_path" in record)

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Counts the pixels of each sample per class, and writes the predictions if `output_dir` is set.

        Raises:
            DataError: The shapes of the prediction and the ground truth differ, or a class is out of range.
        """
        needed = {"pred_sem_seg": True, "gt_sem_seg": not self.format_only, "img_path": self.output_dir is not None}
        check_samples(self, data_samples, *(name for name, is_needed in needed.items() if is_needed))
        count = 0 if self.format_only else len(required_classes(self))
        for sample in data_samples:
            predicted = as_array(sample["pred_sem_seg"]["data"]).squeeze(0)
            if self.output_dir is not None:
                name = f"{self._names[sample['img_path']]}.png"
                labels = predicted + 1 if sample.get("reduce_zero_label") else predicted  # as in the annotation files
                folder = self.context.folder if self.context.is_trial else self.output_dir
                commit_image(os.path.join(folder, self.context.dataset, name), Image.fromarray(labels.astype(np.uint8)))
            if self.format_only:
                continue
            truth = as_array(sample["gt_sem_seg"]["data"]).squeeze(0)
            where = f"of '{sample.get('img_path', '')}'"
            if predicted.shape != truth.shape:
                raise DataError(
                    f"the ground truth {where} has shape {truth.shape}, but the prediction has shape {predicted.shape}",
                    notes=["In test pipelines and TestTimeAug, put LoadAnnotations after Resize."],
                )
            counted = truth != self.ignore_index
            predicted, truth = predicted[counted].astype(np.int64), truth[counted].astype(np.int64)
            check_classes(f"ground truth {where}", truth, count)
            check_classes(f"prediction {where}", predicted, count)
            pixels = np.bincount(count * truth + predicted, minlength=count**2)
            cells = np.flatnonzero(pixels)  # an image contains few of all pairs of classes
            self.results.append(np.stack([cells, pixels[cells]]))

    def compute_metrics(self, results: list[_Counts]) -> dict[str, float]:
        """Logs and records the per-class results, and returns a dict of metrics in percent.

        The dict contains `aAcc`, the means over classes and, if `classwise` is set, the values of each class. It is
        empty if `format_only` is set.
        """
        if self.format_only:
            return {}
        classes = required_classes(self)
        matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
        for cells, pixels in results:
            matrix.flat[cells] += pixels
        areas = np.stack([matrix.diagonal(), matrix.sum(axis=0), matrix.sum(axis=1)])
        columns = self._columns(areas)
        self.record_per_class("IoU", classes, columns)
        record_matrix(self, classes, matrix)
        repeated = {"Fscore"} if "Dice" in columns else set()  # they are the same
        table = format_table(classes, {name: columns[name] for name in columns if name not in repeated})
        _logger.info("%sper-class results in percent:\n%s", self.dataset_prefix, table)
        values = {"aAcc": float(_percent(areas[0].sum(), areas[2].sum()))}
        for name, column in columns.items():
            known = column[~np.isnan(column)]
            values[f"m{name}"] = float(known.mean()) if known.size else math.nan
        if "Fscore" in columns and not self.context.is_trial:
            self._warn_about_undefined(columns["Fscore"], areas[2] > 0)
        if self.classwise:
            for name, column in columns.items():
                values |= {f"{name}.{label}": float(v) for label, v in zip(classes, column, strict=True)}
        return values

    def _warn_about_undefined(self, fscores: _Values, occurs: NDArray[np.bool_]) -> None:
        """Warns about classes in the ground truth that mFscore excludes, whenever other classes are excluded."""
        missing = [required_classes(self)[label] for label in np.flatnonzero(np.isnan(fscores) & occurs)]
        if missing and missing != self._missing:
            _logger.warning(
                "%smFscore%s excludes %d of %d classes, because none of their pixels was predicted correctly: %s. To "
                "count undefined values of all metrics as 0, set nan_to_num=0.",
                self.dataset_prefix,
                f" at iteration {step}" if (step := self.context.step()) else "",
                len(missing),
                occurs.sum(),
                list_names(missing, _MAX_NAMES),
            )
        self._missing = missing

    def _columns(self, areas: _Counts) -> dict[str, _Values]:
        """Returns the per-class values of each metric in percent, keyed by metric name without the leading "m".

        `areas` are the pixels of each class, ``(3, C)``: correct predictions, all predictions and the ground truth.
        """
        right, predicted, true = areas
        recall = _percent(right, true)  # also the accuracy of the class
        columns: dict[str, _Values] = {}
        if "mIoU" in self.iou_metrics:
            columns |= {"IoU": _percent(right, predicted + true - right), "Acc": recall}
        if "mDice" in self.iou_metrics:
            columns |= {"Dice": _percent(2 * right, predicted + true), "Acc": recall}
        if "mFscore" in self.iou_metrics:
            precision = _percent(right, predicted)
            # Undefined if precision or recall is undefined, or both are 0, as in MMSegmentation.
            fscore = _percent(2 * precision * recall / 100, precision + recall)
            columns |= {"Fscore": fscore, "Precision": precision, "Recall": recall}
        if self.nan_to_num is not None:
            columns = {name: np.nan_to_num(column, nan=100 * self.nan_to_num) for name, column in columns.items()}
        return columns


def _percent(part: NDArray[Any], whole: NDArray[Any]) -> _Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * np.true_divide(part, whole)  # type: ignore[no-any-return]
