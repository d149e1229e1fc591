"""The COCO metric: average precision and recall, and the confusion matrix, over a dataset."""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footplate.checks import check_choice, check_names
from footplate.data.coco_masks import coco_package
from footplate.data.findings import Findings
from footplate.errors import ArgumentError, DataError
from footplate.evaluation import BaseMetric
from footplate.registry import METRICS
from footplate.storage import commit_bytes
from footplate_vision.detection.coco_format import (
    Entry,
    ImageResult,
    area,
    as_truth,
    category_ids,
    image_result,
    load_coco_file,
)
from footplate_vision.detection.matching import LEAST_IOU, LEAST_SCORE, LabeledBoxes, match_boxes
from footplate_vision.metric_helpers import check_samples, format_table, record_matrix, required_classes
from footplate_vision.task_base import check_classes, image_name

_logger = logging.getLogger("footplate.vision")
_Values = NDArray[np.float64]
_KINDS = ("bbox", "segm")
_LIMITS = (100, 300, 1000)  # the numbers of predictions per image, as in MMDetection
UNDEFINED = -1.0  # the value that COCO uses if there is no ground truth
_NO_OBJECT = "(no object)"
_MATRIX = f"confusion_matrix of boxes, score ≥ {LEAST_SCORE:g}, IoU ≥ {LEAST_IOU:g}"


@METRICS.register_module()
class CocoMetric(BaseMetric[ImageResult]):
    """COCO's average precision, from 0 to 1, or -1 if there is no ground truth.

    The ground truth is read from `ann_file`. By default, it is read from the dataset's annotation file or, if there is
    no such file or it is not a JSON file, from the samples.

    For boxes, the confusion matrix of up to 99 classes is added to the run's per-class results. It compares true boxes
    with predictions that have a score of at least 0.3 and an IoU of at least 0.5. Its last row contains false
    detections, and its last column undetected boxes.

    Args:
        ann_file: A COCO file with the ground truth. Set it to "" to read the ground truth from the samples.
        metric: "bbox" for boxes, "segm" for masks, or both.
        classwise: Whether to also log a table with each class's average precision, and report it as `<class>_precision`
            for boxes and `segm_<class>_precision` for masks. It is NaN for a class without ground truth.
        format_only: Whether to only write predictions, without computing metrics.
        outfile_prefix: The path prefix of prediction files. In a config, it is relative to the run's folder
            (`work_dir/<timestamp>`), which it cannot leave. Code may pass any path. If there are several datasets,
            the files are in a subfolder with the dataset's name. Writes
            `<prefix>.bbox.json` or `<prefix>.segm.json`, depending on `metric`. Also writes `<prefix>.gt.json` if the
            ground truth comes from the samples and `format_only` is not set.
        file_client_args: Ignored; accepted for compatibility.
        backend_args: Ignored; accepted for compatibility.
        settings: Arguments for `BaseMetric`; the default prefix is "coco".

    Raises:
        ArgumentError: A metric is unknown, or `format_only` is set without `outfile_prefix`.
        DataError: The ground truth is missing, or lacks a class or an image, or a predicted class is out of range.
        MissingExtraError: The package faster-coco-eval is not installed.

    Source: Lin et al., "Microsoft COCO: Common Objects in Context", arXiv:1405.0312.
    """

    default_prefix = "coco"
    output_arguments = ("outfile_prefix",)

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        classwise: bool = False,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        *,
        file_client_args: dict[str, Any] | None = None,
        backend_args: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.metrics = tuple(check_choice("metric", kind, _KINDS) for kind in check_names("metric", metric))
        if format_only and outfile_prefix is None:
            raise ArgumentError("format_only requires outfile_prefix", key="format_only")
        self.ann_file = ann_file or None
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self._own_ann_file = ann_file

    def attach(self, dataset: Any) -> None:
        """Uses the dataset's annotation file if it is a JSON file and `ann_file` is not set."""
        file = self._own_ann_file
        if file is None and str(getattr(dataset, "ann_file", "")).lower().endswith(".json"):
            file = dataset.ann_file
        self.ann_file = file or None

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Records the predictions and, if there is no annotation file but metrics are computed, the ground truth."""
        check_samples(self, data_samples)
        truth = self.ann_file is None and not self.format_only
        masks, count = "segm" in self.metrics, len(required_classes(self))
        for sample in data_samples:
            self.results.append(image_result(sample, with_truth=truth, with_masks=masks))
            labels = np.array([entry["category_id"] for entry in self.results[-1].predicted])
            check_classes(f"prediction for {image_name(sample)}", labels, count)

    def compute_metrics(self, results: list[ImageResult]) -> dict[str, float]:
        """Writes files if `outfile_prefix` is set. Returns a dict of metrics, empty if `format_only` is set."""
        numbers = [result.image_id for result in results]
        twice = [number for number, count in Counter(numbers).items() if count > 1]
        if self.ann_file is None and (twice or not all(isinstance(number, int) for number in numbers)):
            numbers = list(range(len(numbers)))
        elif twice:
            raise DataError(f"image {twice[0]} was evaluated twice", key="img_id")
        truth, category_ids = self._truth(results, numbers)
        found = [
            {**entry, "image_id": number, "category_id": category_ids[entry["category_id"]]}
            for result, number in zip(results, numbers, strict=True)
            for entry in result.predicted
        ]
        if self.outfile_prefix is not None:
            prefix = self._output_path(self.outfile_prefix)
            known = {category["id"] for category in truth["categories"]}  # the file may lack classes
            for kind in self.metrics:
                other = "bbox" if kind == "segm" else "segmentation"
                entries = [
                    {key: value for key, value in entry.items() if key != other}
                    for entry in found
                    if entry["category_id"] in known
                ]
                commit_bytes(f"{prefix}.{kind}.json", json.dumps(entries).encode())
            if self.ann_file is None and not self.format_only:
                commit_bytes(f"{prefix}.gt.json", json.dumps(truth).encode())
        values: dict[str, float] = {}
        for kind in () if self.format_only else self.metrics:
            values |= self._values(kind, truth, found, category_ids)
        if "bbox" in self.metrics and not self.format_only:
            names = (*required_classes(self), _NO_OBJECT)
            record_matrix(self, names, _confusion_matrix(truth, found, category_ids), _MATRIX)
        return values

    def _values(
        self, kind: str, truth: dict[str, Any], found: list[Entry], category_ids: list[int]
    ) -> dict[str, float]:
        precision = self._measure(kind, truth, found, category_ids)
        values = {f"{kind}_{name}": value for name, value in named_values(precision).items()}
        classes = required_classes(self)
        means = [_mean(precision[:, :, place, 0, -1], math.nan) for place in range(len(classes))]
        self.record_per_class(kind, classes, {"AP": means})
        if self.classwise:
            before = "" if kind == "bbox" else f"{kind}_"
            table = format_table(classes, {"AP": means}, decimals=3)
            _logger.info("%s%s, average precision per class:\n%s", self.dataset_prefix, kind, table)
            values |= {f"{before}{name}_precision": mean for name, mean in zip(classes, means, strict=True)}
        return values

    def _truth(self, results: list[ImageResult], numbers: list[Any]) -> tuple[dict[str, Any], list[int]]:
        """Returns the ground truth of the evaluated images, and the category id of each class."""
        if self.ann_file is None:
            classes = required_classes(self)
            return as_truth(results, numbers, classes), list(range(len(classes)))
        is_boxless = set(self.metrics) == {"segm"}
        optional = ["annotations", *(["bbox"] if is_boxless else [])]
        content = load_coco_file(Findings(self.ann_file), optional=optional, needs_masks="segm" in self.metrics)
        images = {image["id"]: image for image in content["images"]}
        if unknown := [number for number in numbers if number not in images]:
            raise DataError(f"the file '{self.ann_file}' has no image with the id {unknown[0]}", key="img_id")
        truth = {**content, "images": [images[number] for number in numbers]}
        key = "metainfo.classes"
        return truth, category_ids(required_classes(self), content["categories"], self.ann_file, key=key, may_lack=True)

    def _measure(self, kind: str, truth: dict[str, Any], found: list[Entry], category_ids: list[int]) -> _Values:
        """Computes the precision of predictions by comparing them with the ground truth.

        Args:
            kind: "bbox" or "segm".
            truth: The content of a COCO file, with the images to evaluate.
            found: The content of a COCO result file.
            category_ids: The ids of the categories to evaluate. The results are in the order of these ids.

        Returns:
            The precision, of shape ``(T, R, K, A, M)``, by IoU threshold from 0.5 to 0.95, recall, category, object
            size and prediction limit. A value is -1 if there is no ground truth.
        """
        package = coco_package("CocoMetric")
        predictions = ({**entry, "iscrowd": 0, "area": area(entry, of_mask=kind == "segm")} for entry in found)
        # The package needs unique positive integers as ids. In files, ids may be strings, start at 0, occur twice or be
        # missing, so each id is replaced with its position, counted from 1.
        images = _positions(image["id"] for image in truth["images"])
        categories = _positions([*category_ids, *(each["id"] for each in truth["categories"])])
        sections = {
            "images": [image | {"id": images[image["id"]]} for image in truth["images"]],
            "categories": [{"id": position} for position in categories.values()],
        }
        files = []
        for annotations in (truth["annotations"], predictions):
            known = (
                entry for entry in annotations if entry["image_id"] in images and entry["category_id"] in categories
            )
            numbered = [
                {
                    **entry,
                    "id": number,
                    "image_id": images[entry["image_id"]],
                    "category_id": categories[entry["category_id"]],
                }
                for number, entry in enumerate(known, start=1)
            ]
            files.append(package.COCO({**sections, "annotations": numbered}))
        evaluation = package.COCOeval_faster(*files, kind)
        evaluation.params.catIds = [categories[number] for number in category_ids]
        evaluation.params.maxDets = list(_LIMITS)
        evaluation.evaluate()
        evaluation.accumulate()
        return np.asarray(evaluation.eval["precision"], dtype=np.float64).reshape(tuple(evaluation.eval["counts"]))


def named_values(precision: _Values) -> dict[str, float]:
    """Returns a dict of COCO metrics, which are -1 if there is no ground truth. See `CocoMetric._measure`.

    `mAP` is the mean over thresholds and categories, with at most 100 predictions per image. `mAP_50` and `mAP_75` use
    one IoU threshold. `mAP_s`, `mAP_m` and `mAP_l` are for small, medium and large instances: below 32² pixels, from
    32² to 96² pixels, and above.

    Source: https://cocodataset.org/#detection-eval.
    """
    values = {"mAP": precision[..., 0, 0], "mAP_50": precision[0, ..., 0, -1], "mAP_75": precision[5, ..., 0, -1]}
    values |= {f"mAP_{size}": precision[..., place, -1] for place, size in enumerate("sml", start=1)}
    return {name: _mean(value) for name, value in values.items()}


def _confusion_matrix(
    truth: Mapping[str, Any], found: Sequence[Entry], category_ids: Sequence[int]
) -> NDArray[np.int64]:
    """Returns the numbers of matched boxes, ``(C + 1, C + 1)``, by true and predicted class. The last one is no object.

    Args:
        truth: The content of a COCO file.
        found: The content of a COCO result file.
        category_ids: The category id of each class. Boxes of other categories are left out.
    """
    labels = {number: label for label, number in enumerate(category_ids)}
    entries: dict[Any, tuple[list[Entry], list[Entry], list[Entry]]] = {
        image["id"]: ([], [], []) for image in truth["images"]
    }
    for entry in truth["annotations"]:
        if entry["image_id"] in entries and entry["category_id"] in labels:
            entries[entry["image_id"]][2 if entry.get("iscrowd") else 0].append(entry)
    for entry in sorted(found, key=lambda each: -each["score"]):
        if entry["score"] >= LEAST_SCORE:
            entries[entry["image_id"]][1].append(entry)
    matrix = np.zeros((len(labels) + 1, len(labels) + 1), dtype=np.int64)
    for of_image in entries.values():
        boxes = [np.array([entry["bbox"] for entry in group], dtype=np.float64).reshape(-1, 4) for group in of_image]
        for each in boxes:
            each[:, 2:] += each[:, :2]
        true, predicted = (
            LabeledBoxes(own, np.array([labels[entry["category_id"]] for entry in group], dtype=np.int64))
            for own, group in zip(boxes[:2], of_image[:2], strict=True)
        )
        for pair in match_boxes(true, predicted, boxes[2], no_object=len(labels)):
            matrix[pair] += 1
    return matrix


def _positions(ids: Iterable[Any]) -> dict[Any, int]:
    return {number: position for position, number in enumerate(dict.fromkeys(ids), start=1)}


def _mean(values: _Values, undefined: float = UNDEFINED) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else undefined
