"""The COCO metric: average precision and recall over a dataset."""

import json
import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from footplate.data.annotations import load_data_file
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.evaluation import BaseMetric, check_samples
from footplate.messages import nearest
from footplate.registry import METRICS
from footplate.storage import check_output_path, commit_bytes, output_path
from footplate.tasks.detection.coco_dataset import check_mask
from footplate.tasks.detection.coco_format import Picture, as_results, as_truth, picture_of
from footplate.tasks.detection.coco_values import measure, named_values, values_by_category

_logger = logging.getLogger("footplate.tasks")
_KINDS = ("bbox", "segm", "proposal")
_USUAL_ITEMS = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")


@METRICS.register_module()
class CocoMetric(BaseMetric[Picture]):
    """The average precision and recall of COCO, from 0 to 1, or -1 if there is no ground truth.

    The ground truth is read from `ann_file`, by default from the annotation file of the evaluated dataset. If the
    dataset has no such file, the ground truth is taken from the samples.

    Args:
        ann_file: A COCO file with the ground truth.
        metric: One or several of "bbox", "segm" for masks, "proposal" for the class-agnostic recall of boxes.
        classwise: Whether to also log a table of classes and report `<class>_precision`, for masks
            `segm_<class>_precision`.
        proposal_nums: Three maximum numbers of predictions per image.
        iou_thrs: One or several IoU thresholds; by default 0.5, 0.55 ... 0.95.
        metric_items: The values to report; by default `mAP`, `mAP_50`, `mAP_75`, `mAP_s`, `mAP_m`, `mAP_l`, and for
            "proposal" the recalls `AR@100` etc.
        format_only: Whether to only write predictions, without computing metrics.
        outfile_prefix: The path prefix of prediction files, relative to the run's folder, `work_dir/<timestamp>`:
            `<prefix>.bbox.json`, `<prefix>.segm.json`, and without an annotation file also `<prefix>.gt.json`.
        collect_device: See `BaseMetric`.
        prefix: See `BaseMetric`; "coco" by default.
        file_client_args: Ignored; accepted for compatibility.
        backend_args: Same as above.

    Raises:
        ArgumentError: A metric or an item is unknown, or `format_only` is set without `outfile_prefix`.
        DataError: The ground truth is missing, or lacks a class or an image.
        MissingExtraError: The package faster-coco-eval is not installed.

    Source: Lin et al., "Microsoft COCO: Common Objects in Context", arXiv:1405.0312.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        iou_thrs: float | Sequence[float] | None = None,
        metric_items: Sequence[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        *,
        file_client_args: dict[str, Any] | None = None,
        backend_args: dict[str, Any] | None = None,
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = (metric,) if isinstance(metric, str) else tuple(metric)
        for name in self.metrics:
            if name not in _KINDS:
                raise ArgumentError("unknown metric", key="metric", found=name, suggestion=nearest(name, _KINDS))
        if format_only and outfile_prefix is None:
            raise ArgumentError("format_only needs an outfile_prefix", key="format_only")
        if len(proposal_nums) != 3 or any(number < 1 for number in proposal_nums):
            raise ArgumentError("proposal_nums are three positive numbers", key="proposal_nums", found=proposal_nums)
        self.ann_file = ann_file
        self.classwise = classwise
        self.proposal_nums = tuple(sorted(proposal_nums))
        self.iou_thrs = _thresholds(iou_thrs)
        self.metric_items = None if metric_items is None else tuple(metric_items)
        self.format_only = format_only
        if outfile_prefix is not None:
            check_output_path(outfile_prefix, key="outfile_prefix")
        self.outfile_prefix = outfile_prefix
        self._own_ann_file = ann_file
        _check_items(self.metric_items or (), self.proposal_nums)

    def attach(self, dataset: Any) -> None:
        """Uses the annotation file of the dataset if no `ann_file` is given."""
        if self._own_ann_file is None:
            self.ann_file = getattr(dataset, "ann_file", None) or None

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Records the predictions and, without an annotation file, the ground truth.

        Raises:
            DataError: Predictions or ground truth are missing.
        """
        check_samples(self, data_samples)
        truth = self.ann_file is None and not self.format_only
        masks = "segm" in self.metrics
        self.results += [picture_of(sample, with_truth=truth, with_masks=masks) for sample in data_samples]

    def compute_metrics(self, results: list[Picture]) -> dict[str, float]:
        """Writes the requested files, and returns the values by name; empty with `format_only`.

        Raises:
            DataError: The ground truth lacks a class or an image, or an image was evaluated twice.
        """
        numbers = self._numbers(results)
        truth, category_ids = self._truth(results, numbers)
        found = as_results(results, numbers, category_ids)
        self._write(found, truth)
        values: dict[str, float] = {}
        for kind in () if self.format_only else self.metrics:
            values |= self._values(kind, truth, found, category_ids)
        return values

    def _numbers(self, results: list[Picture]) -> list[Any]:
        """Returns the id of each image: `img_id` if all are unique integers, or else its position."""
        own = [each.number for each in results]
        unique = len(set(own)) == len(own)
        if self.ann_file is not None and not unique:
            twice = next(number for number in own if own.count(number) > 1)
            raise DataError(f"the picture {twice} was seen twice", key="img_id", found=twice)
        return own if unique and all(isinstance(number, int) for number in own) else list(range(len(own)))

    def _values(
        self, kind: str, truth: dict[str, Any], found: list[dict[str, Any]], category_ids: list[int]
    ) -> dict[str, float]:
        curves = measure(
            truth,
            found,
            kind,
            numbers=self.proposal_nums,
            thresholds=self.iou_thrs,
            category_ids=category_ids,
        )
        named = named_values(curves)
        recalls = tuple(name for name in named if name.startswith("AR"))
        items = self.metric_items or (recalls if kind == "proposal" else _USUAL_ITEMS)
        values = {name if kind == "proposal" else f"{kind}_{name}": named[name] for name in items}
        if kind == "proposal":
            return values
        by_class = dict(zip(self._classes, values_by_category(curves), strict=True))
        self.record_per_class(kind, list(by_class), {"AP": list(by_class.values())})
        if self.classwise:
            before = "" if kind == "bbox" else f"{kind}_"
            width = max(map(len, ["class", *by_class]))
            lines = [f"{'class'.ljust(width)}  {before}AP"]
            lines += [f"{name.ljust(width)}  {value:.3f}" for name, value in by_class.items()]
            _logger.info("%s%s, average precision per class:\n%s", self.title, kind, "\n".join(lines))
            values |= {f"{before}{name}_precision": value for name, value in by_class.items()}
        return values

    @property
    def _classes(self) -> tuple[str, ...]:
        classes = (self.dataset_meta or {}).get("classes")
        if not classes:
            raise DataError("CocoMetric needs the classes of the dataset", notes=["metainfo has no 'classes'"])
        return tuple(str(name) for name in classes)

    def _truth(self, results: list[Picture], numbers: list[Any]) -> tuple[dict[str, Any], list[int]]:
        """Returns the ground truth of the evaluated images, and the category id of each class."""
        if self.ann_file is None:
            return as_truth(results, numbers, self._classes), list(range(len(self._classes)))
        with at_key("ann_file"):
            content = load_data_file(self.ann_file)
        if not isinstance(content, dict) or not {"images", "categories"} <= content.keys():
            raise DataError(f"the file '{self.ann_file}' is no COCO file", key="ann_file")
        pictures = {image["id"]: image for image in content["images"]}
        for number in numbers:
            if number not in pictures:
                raise DataError(f"the file '{self.ann_file}' has no picture {number}", key="img_id", found=number)
        annotations = [_whole(each) for each in content.get("annotations", ())]
        if "segm" in self.metrics:
            for each in annotations:
                if each.get("segmentation") and each.get("image_id") in pictures:
                    check_mask(each, pictures[each["image_id"]], self.ann_file)
        truth = {**content, "images": [pictures[number] for number in numbers], "annotations": annotations}
        return truth, self._category_ids(content["categories"])

    def _category_ids(self, categories: Sequence[dict[str, Any]]) -> list[int]:
        ids = {str(each["name"]): each["id"] for each in categories}
        for name in self._classes:
            if name not in ids:
                near = nearest(name, ids)
                raise DataError(f"the file '{self.ann_file}' has no category '{name}'", key="classes", suggestion=near)
        return [ids[name] for name in self._classes]

    def _write(self, found: list[dict[str, Any]], truth: dict[str, Any]) -> None:
        if self.outfile_prefix is None:
            return
        prefix = output_path(self.context.folder, self.outfile_prefix)
        boxes = [{key: value for key, value in entry.items() if key != "segmentation"} for entry in found]
        masks = [{key: value for key, value in entry.items() if key != "bbox"} for entry in found]
        for kind, entries in (("bbox", boxes), ("segm", masks)):
            if kind in self.metrics or (kind == "bbox" and "proposal" in self.metrics):
                commit_bytes(f"{prefix}.{kind}.json", json.dumps(entries).encode())
        if self.ann_file is None and not self.format_only:
            commit_bytes(f"{prefix}.gt.json", json.dumps(truth).encode())


def _whole(annotation: dict[str, Any]) -> dict[str, Any]:
    """Adds `iscrowd` and the area of the box to an annotation if they are missing."""
    if "area" in annotation and "iscrowd" in annotation:
        return annotation
    return {"iscrowd": 0, "area": annotation["bbox"][2] * annotation["bbox"][3], **annotation}


def _thresholds(iou_thrs: float | Sequence[float] | None) -> tuple[float, ...]:
    if iou_thrs is None:
        return tuple(np.linspace(0.5, 0.95, 10).tolist())
    several = (iou_thrs,) if isinstance(iou_thrs, (int, float)) else tuple(iou_thrs)
    if not several or any(not 0 <= threshold <= 1 for threshold in several):
        raise ArgumentError("thresholds lie between 0 and 1", key="iou_thrs", found=iou_thrs)
    return several


def _check_items(items: Sequence[str], numbers: Sequence[int]) -> None:
    known = [*_USUAL_ITEMS, *(f"AR@{number}" for number in numbers)]
    known += [f"AR_{size}@{max(numbers)}" for size in "sml"]
    for name in items:
        if name not in known:
            near = nearest(name, known)
            raise ArgumentError("unknown value", key="metric_items", found=name, suggestion=near)
