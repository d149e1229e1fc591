"""Conversion of ground truth and predictions to the COCO format."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from footplate.data.annotations import coco_package, encode_mask
from footplate.errors import DataError
from footplate.visualization import as_array

_Boxes = npt.NDArray[np.float64]


class Instances(NamedTuple):
    """The instances of one image, in pixels of the original image.

    Attributes:
        boxes: ``(N, 4)``, x1 y1 x2 y2.
        labels: ``(N,)``, class indices.
        scores: ``(N,)``; 1 for the ground truth.
        masks: The run-length encoded masks, or None.
        crowd: ``(N,)``, bool; False for predictions.
    """

    boxes: _Boxes
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    masks: list[dict[str, Any]] | None
    crowd: npt.NDArray[np.bool_]


class ImageResult(NamedTuple):
    """The prediction for one image, and its ground truth or None if the ground truth is read from a file."""

    image_id: Any
    shape: tuple[int, int]
    predicted: Instances
    true: Instances | None


def image_result(sample: Mapping[str, Any], *, with_truth: bool, with_masks: bool) -> ImageResult:
    """Returns the predictions and, optionally, the ground truth of a DetDataSample that is passed as a dict.

    Raises:
        DataError: Predictions, ground truth or masks are missing.
    """
    name = str(sample.get("img_path", sample.get("img_id", "")))
    if "pred_instances" not in sample:
        raise DataError(f"the model returned no 'pred_instances' for the image '{name}'")
    predicted = _instances(sample["pred_instances"], name, with_masks=with_masks)
    shape = tuple(sample.get("ori_shape", sample.get("img_shape", (0, 0))))[:2]
    true = _truth(sample, name, shape, with_masks=with_masks) if with_truth else None
    return ImageResult(sample.get("img_id"), (int(shape[0]), int(shape[1])), predicted, true)


def as_results(results: Sequence[ImageResult], ids: Sequence[Any], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Returns the predictions for all images in the format of COCO result files."""
    return [
        entry | {"score": score}
        for result, image_id in zip(results, ids, strict=True)
        for entry, score in zip(
            _entries(result.predicted, image_id, category_ids), result.predicted.scores.tolist(), strict=True
        )
    ]


def as_truth(results: Sequence[ImageResult], ids: Sequence[Any], classes: Sequence[str]) -> dict[str, Any]:
    """Returns the ground truth in the format of COCO files; category ids are class indices."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for result, image_id in zip(results, ids, strict=True):
        height, width = result.shape
        images.append({"id": image_id, "file_name": str(image_id), "height": height, "width": width})
        if result.true is None:
            continue
        entries = _entries(result.true, image_id, range(len(classes)))
        for entry, crowd in zip(entries, result.true.crowd.tolist(), strict=True):
            annotations.append(entry | {"id": len(annotations) + 1, "iscrowd": int(crowd), "area": _area(entry)})
    categories = [{"id": position, "name": name} for position, name in enumerate(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def as_annotations(results: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Converts the entries of a result file to annotations with the areas of boxes ("bbox") or of masks ("segm")."""
    numbered = ({**entry, "id": place, "iscrowd": 0} for place, entry in enumerate(results, start=1))
    if kind == "bbox":
        return [entry | {"area": entry["bbox"][2] * entry["bbox"][3]} for entry in numbered]
    return [entry | {"area": _area(entry)} for entry in numbered]


def _entries(instances: Instances, number: Any, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    corners, sides = instances.boxes[:, :2], instances.boxes[:, 2:] - instances.boxes[:, :2]
    boxes = np.concatenate([corners, sides], axis=1).tolist()
    found: list[dict[str, Any]] = [
        {"image_id": number, "bbox": box, "category_id": category_ids[label]}
        for box, label in zip(boxes, instances.labels.tolist(), strict=True)
    ]
    if instances.masks is not None:
        return [entry | {"segmentation": mask} for entry, mask in zip(found, instances.masks, strict=True)]
    return found


def _area(entry: Mapping[str, Any]) -> float:
    """Returns the area of the mask in pixels, or of the box if there is no mask."""
    if "segmentation" in entry:
        return float(coco_package("measuring masks").mask.area(entry["segmentation"]))
    return float(entry["bbox"][2] * entry["bbox"][3])


def _truth(sample: Mapping[str, Any], name: str, shape: tuple[int, ...], *, with_masks: bool) -> Instances:
    if "gt_instances" not in sample:
        raise DataError(
            f"the image '{name}' has no ground truth: 'gt_instances' is missing",
            notes=["Load annotations in the test pipeline, or set ann_file of CocoMetric."],
        )
    parts = [_instances(sample["gt_instances"], name, with_masks=with_masks)]
    if "ignored_instances" in sample:
        parts.append(_instances(sample["ignored_instances"], name, with_masks=with_masks, crowd=True))
    factor = np.asarray(sample.get("scale_factor", (1.0, 1.0)), dtype=np.float64)
    if with_masks and not np.allclose(factor, 1):
        raise DataError(
            f"the masks of the image '{name}' were resized and cannot serve as ground truth",
            notes=["Set ann_file of CocoMetric."],
        )
    return Instances(
        np.concatenate([part.boxes for part in parts]) / np.tile(factor, 2),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.scores for part in parts]),
        [mask for part in parts for mask in part.masks or ()] if with_masks else None,
        np.concatenate([part.crowd for part in parts]),
    )


def _instances(fields: Any, name: str, *, with_masks: bool, crowd: bool = False) -> Instances:
    boxes = as_array(fields["bboxes"]).astype(np.float64).reshape(-1, 4)
    if with_masks and "masks" not in fields:
        raise DataError(f"metric='segm' needs masks, but the instances of the image '{name}' have none")
    scores = as_array(fields["scores"]).astype(np.float64) if "scores" in fields else np.ones(len(boxes))
    return Instances(
        boxes,
        as_array(fields["labels"]).astype(np.int64),
        scores,
        [encode_mask(mask) for mask in as_array(fields["masks"])] if with_masks else None,
        np.full(len(boxes), crowd),
    )
