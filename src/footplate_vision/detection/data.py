"""Defines the COCO dataset, the data sample, the packing transform and the data preprocessor for detection."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from footplate.checks import check_keys
from footplate.data import BaseDataset
from footplate.data.annotations import join_root
from footplate.data.data_element import BaseDataElement
from footplate.data.findings import Findings
from footplate.data.label_warnings import warn_about_missing_classes
from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.messages import pluralize
from footplate.models import ImgDataPreprocessor
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate_vision.detection.coco_format import category_ids, load_coco_file, name_of
from footplate_vision.structures import InstanceData
from footplate_vision.task_base import META_KEYS, PackSamples, data_field, pad_to

_logger = logging.getLogger("footplate.vision")
_USUAL_CROWDS = 0.1  # share of the boxes; 0.012 in COCO


@DATASETS.register_module()
class CocoDataset(BaseDataset):
    """A dataset of the images and instances in a COCO file.

    A record has `img_path`, `img_id`, `width`, `height` and `instances`. Each instance is a dict with `bbox` (x1 y1 x2
    y2, clipped to the image), `bbox_label` (an index into the classes), `ignore_flag` (1 for crowds) and `mask` (the
    segmentation as in the file). `LoadAnnotations` converts them to arrays.

    A warning reports the number of annotations that are left out: boxes below one pixel or outside their image,
    annotations with `ignore=1`, and those of images that are not in the file. A category is no class if it has no
    annotations and is the supercategory of all others, or LabelMe's `_background_`.

    Takes the arguments of `BaseDataset`. These have a special meaning:

    - `ann_file`: The COCO JSON file.
    - `data_prefix`: `dict(img=...)`, the folder that `file_name` is relative to; by default, `data_root`.
    - `metainfo`: `dict(classes=[...])` selects and orders the categories; by default, all categories in file order.
    - `filter_cfg`: `filter_empty_gt=True` removes images without instances (crowds count as instances), and
      `min_size=32` removes images whose shorter side has fewer than 32 pixels. Ignored if `test_mode` is set.
    - `test_mode`: Whether to keep all images, and to accept a file without annotations.

    Raises:
        DataError: The file is not in COCO format, an entry is invalid or refers to an unknown category, a class is not
            a category in the file, no annotation can be used for training, or no image remains after filtering.
        ArgumentError: `filter_cfg` has an unknown key.
    """

    left_out = ""  # how many images `filter_cfg` removed and why, for the log and `check`

    def load_data_list(self) -> list[Any]:
        """Returns a record for each image in the file."""
        findings = Findings(self.ann_file)
        content = load_coco_file(findings, optional=["annotations"] if self.test_mode else [])
        categories = content["categories"]
        classes = self._metainfo.setdefault("classes", tuple(str(category["name"]) for category in categories))
        ids = category_ids(classes, categories, self.ann_file, key="metainfo.classes", may_lack=True)
        labels = {number: label for label, number in enumerate(ids)}
        prefix = self.data_prefix.get("img", self.data_prefix.get("img_path", self.data_root))
        records = {
            image["id"]: {
                "img_path": join_root(prefix, image["file_name"]),
                "img_id": image["id"],
                "width": int(image["width"]),
                "height": int(image["height"]),
                "instances": [],
            }
            for image in content["images"]
        }
        selected = [annotation for annotation in content["annotations"] if annotation["category_id"] in labels]
        num_beyond = num_tiny = num_crowds = 0
        labels_in_use = set[int]()
        for annotation in selected:
            record = records[annotation["image_id"]]
            x, y, width, height = annotation["bbox"]
            right, bottom = x + width, y + height
            num_beyond += right > record["width"] + 1 or bottom > record["height"] + 1
            num_tiny += max(width, height) <= 1
            box = [max(x, 0.0), max(y, 0.0), min(right, record["width"]), min(bottom, record["height"])]
            problem = ""
            if annotation.get("ignore"):
                problem = "annotations with 'ignore': 1 are left out, as in MMDetection"
            elif width < 1 or height < 1 or box[2] <= box[0] or box[3] <= box[1]:
                problem = "boxes below one pixel or outside their image are left out"
            if problem:
                # as published results do
                advice = "With `ann_file`, CocoMetric still counts them as undetected." if self.test_mode else ""
                findings.warn(problem, name_of(annotation, record["img_path"]), advice=advice)
                continue
            label, is_crowd = labels[annotation["category_id"]], annotation["iscrowd"]
            record["instances"].append({"bbox": box, "bbox_label": label, "ignore_flag": is_crowd})
            num_crowds += is_crowd
            if not is_crowd:
                labels_in_use.add(label)
            if "segmentation" in annotation:
                record["instances"][-1]["mask"] = annotation["segmentation"]
        findings.report()
        # Boxes at the edge often extend a little beyond their image. In a wrong format, most boxes do.
        box_format = "`bbox` must be x and y of the top left corner, width and height, in pixels."
        crowds = "CVAT writes masks that were drawn with a brush as crowds. If they are objects, set `iscrowd` to 0."
        for count, share, problem, advice in (
            (num_beyond, 0.5, "extend beyond their image", box_format),
            (num_tiny, 0.9, "are at most one pixel wide and high", box_format),
            (num_crowds, _USUAL_CROWDS, "are crowds (iscrowd=1), which training ignores", crowds),
        ):
            if count > share * len(selected):
                _logger.warning("%d of %d boxes in '%s' %s. %s", count, len(selected), self.ann_file, problem, advice)
        if selected and not labels_in_use and not self.test_mode:
            notes = ["All are left out, or crowds (iscrowd=1), which training ignores."]
            raise DataError(f"no annotation in '{self.ann_file}' can be used for training", key="ann_file", notes=notes)
        if content["annotations"]:  # a test file may have none
            warn_about_missing_classes(classes, labels_in_use, self.ann_file)
        return list(records.values())

    def filter_data(self) -> list[Any]:
        """Returns the records that pass the filters in `filter_cfg`."""
        chosen = self.filter_cfg or {}
        with at_key("filter_cfg"):
            check_keys("filter_cfg", chosen, ("filter_empty_gt", "min_size"))
        records, count = list(self.data_list), len(self.data_list)
        if not self.test_mode:
            smallest = chosen.get("min_size", 0)
            large = [each for each in records if min(each["width"], each["height"]) >= smallest]
            records = [each for each in large if each["instances"] or not chosen.get("filter_empty_gt")]
            if len(records) < count:
                reasons = f"{len(large) - len(records)} without boxes, {count - len(large)} smaller than min_size"
                amount = f"{count - len(records)} of {pluralize(count, 'image')}"
                self.left_out = f"{amount} in '{self.ann_file}' are left out by filter_cfg: {reasons}"
                _logger.info("%s", self.left_out)
        if not records:
            reason = f"filter_cfg removes all images ({count})" if count else "the file contains no images"
            raise DataError(
                f"the dataset '{self.ann_file}' is empty: {reason}", key="filter_cfg" if count else "ann_file"
            )
        return records

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the class indices of an image's instances."""
        return [each["bbox_label"] for each in self.get_data_info(idx)["instances"]]


class DetDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_path`, `img_shape` etc. are stored as metainfo.

    Attributes:
        gt_instances: The ground-truth instances: `bboxes` ``(N, 4)``, float32, x1 y1 x2 y2 in pixels of the model
            input, `labels` ``(N,)``, int64, and optionally `masks` ``(N, H, W)``, bool.
        ignored_instances: Instances to ignore during evaluation, such as crowds, with the same fields.
        pred_instances: The predicted instances, best first: `bboxes` in pixels of the original image, `labels` and
            `scores` ``(N,)``, and for some models `masks`.

    Example:
        >>> import torch
        >>> from footplate_vision.structures import InstanceData
        >>> sample = DetDataSample(metainfo=dict(img_path="a.png"))
        >>> sample.gt_instances = InstanceData(bboxes=torch.zeros(2, 4), labels=torch.tensor([1, 0]))
        >>> sample.img_path, len(sample.gt_instances)
        ('a.png', 2)
    """

    gt_instances = data_field("gt_instances", InstanceData)
    ignored_instances = data_field("ignored_instances", InstanceData)
    pred_instances = data_field("pred_instances", InstanceData)


def above_score(sample: Any, score: float) -> Any:
    """Returns a copy of a sample that keeps only predictions with scores of at least `score`.

    Returns `sample` itself if it is not a data element or has no predictions with scores.
    """
    instances = sample.get("pred_instances") if isinstance(sample, BaseDataElement) else None
    if instances is None or "scores" not in instances:
        return sample
    kept = sample.clone()
    kept.pred_instances = instances[instances.scores >= score]
    return kept


@TRANSFORMS.register_module()
class PackDetInputs(PackSamples):
    """Packs the results of a pipeline into the inputs of detection models.

    The results contain `img` of shape ``(H, W, 3)`` or ``(H, W)``. If the ground truth is known, they also contain
    `gt_bboxes` of shape ``(N, 4)``, `gt_bboxes_labels` and `gt_ignore_flags` (for crowds) of shape ``(N,)``, and
    `gt_masks` of shape ``(N, H, W)``.

    Args:
        meta_keys: The keys to store as metainfo, if present.
        with_masks: Whether to pack masks; no built-in model uses them.

    Raises:
        DataError: There is no image, or the numbers of boxes and labels differ.
    """

    sample_type = DetDataSample

    def __init__(self, meta_keys: Sequence[str] = META_KEYS, *, with_masks: bool = True) -> None:
        super().__init__(meta_keys)
        self.with_masks = with_masks

    def annotate(self, sample: DetDataSample, results: Mapping[str, Any]) -> None:
        """Adds the ground-truth instances to a sample if `results` contains boxes."""
        if "gt_bboxes" not in results:
            return
        boxes = np.asarray(results["gt_bboxes"], dtype=np.float32).reshape(-1, 4)
        labels = np.asarray(results.get("gt_bboxes_labels", ()), dtype=np.int64)
        if len(labels) != len(boxes):
            where = results.get("img_path", "")
            counts = f"boxes ({len(boxes)}) and labels ({len(labels)})"
            raise DataError(f"the image '{where}' has different numbers of {counts}")
        instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels))
        if self.with_masks and "gt_masks" in results:
            instances.masks = torch.from_numpy(np.asarray(results["gt_masks"], dtype=bool))
        ignored = np.asarray(results.get("gt_ignore_flags", np.zeros(len(boxes))), dtype=bool)
        sample.gt_instances, sample.ignored_instances = instances[~ignored], instances[ignored]


@MODELS.register_module()
class DetDataPreprocessor(ImgDataPreprocessor):
    """Normalizes images and pads them to the same size on the right and at the bottom, so that boxes stay valid.

    Sets `batch_input_shape` (the padded image size of the batch) and `pad_shape` in each sample.

    Args:
        args: Positional arguments for `ImgDataPreprocessor`, such as `mean` and `std`.
        pad_mask: Whether to pad the ground-truth masks to the size of the images.
        settings: Arguments for `ImgDataPreprocessor`.
    """

    def __init__(self, *args: Any, pad_mask: bool = False, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.pad_mask = pad_mask

    def fit_samples(self, batch: dict[str, Any], training: bool) -> None:
        """Stores the padded image size in each sample. Pads ground-truth masks to this size if `pad_mask` is set."""
        shape = tuple(batch["inputs"].shape[-2:])
        for sample in batch["data_samples"] or ():
            sample.set_metainfo({"batch_input_shape": shape, "pad_shape": shape})
            if self.pad_mask and "masks" in sample.get("gt_instances", ()):
                sample.gt_instances.masks = pad_to(sample.gt_instances.masks, shape, 0)
