"""Reads COCO files, and converts predictions and ground truth to the COCO format."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from footplate.data.annotations import load_data_file
from footplate.data.coco_masks import check_segmentation, coco_package, mask_tools
from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.messages import nearest
from footplate.visualization import as_array

Entry = dict[str, Any]  # an annotation or a prediction in the COCO format

_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("image_id", "category_id", "bbox"),
}


def load_coco_file(path: str, *, optional: Collection[str] = ()) -> dict[str, Any]:
    """Reads a COCO file and checks its sections, entries and boxes.

    Args:
        path: The JSON file.
        optional: Keys that may be missing: the section "annotations", which is then returned as an empty list, or the
            key "bbox" of an annotation.

    Raises:
        DataError: A section, an entry or a value is missing or malformed.
    """
    with at_key("ann_file"):
        content = load_data_file(path)
        if isinstance(content, dict) and "annotations" in optional:
            content.setdefault("annotations", [])
        if not isinstance(content, dict) or not all(isinstance(content.get(section), list) for section in _KEYS):
            raise DataError(f"the file '{path}' is not a COCO file: it must have the lists {', '.join(_KEYS)}")
        for section, names in _KEYS.items():
            keys = [key for key in names if key not in optional]
            for position, entry in enumerate(content[section]):
                where = f"entry {position} of '{section}' in '{path}'"
                if not isinstance(entry, dict) or not entry.keys() >= set(keys):
                    raise DataError(f"{where} must be a dict with the keys {', '.join(keys)}", found=entry)
                if "bbox" in keys and not _is_box(entry["bbox"]):
                    message = f"the 'bbox' of {where} must be four numbers: x, y, width, height"
                    raise DataError(message, found=entry["bbox"])
    return content


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(math.isfinite(number) for number in value)


def check_mask(annotation: Mapping[str, Any], image: Mapping[str, Any], ann_file: str) -> None:
    """Raises a DataError if an annotation's mask is malformed or would need far more memory than its image."""
    try:
        check_segmentation(annotation["segmentation"], (image["height"], image["width"]))
    except (DataError, TypeError, KeyError, ValueError) as error:
        reason = f"the mask of annotation {annotation.get('id', '?')} in '{ann_file}' cannot be used: {error}"
        raise DataError(reason, key="segmentation") from error


class ImageResult(NamedTuple):
    """The instances of one image, in COCO format. Category ids are class indices.

    Attributes:
        image_id: The id of the image.
        shape: The height and width of the original image.
        predicted: The predictions.
        true: The ground truth, or None if it was not extracted from the sample.
    """

    image_id: Any
    shape: tuple[int, int]
    predicted: list[Entry]
    true: list[Entry] | None


def image_result(sample: Mapping[str, Any], *, with_truth: bool, with_masks: bool) -> ImageResult:
    """Extracts the predictions and, optionally, the ground truth from a DetDataSample converted to a dict.

    Raises:
        DataError: Predictions, ground truth or masks are missing, or the ground-truth masks were resized.
    """
    name = str(sample.get("img_path", sample.get("img_id", "")))
    if "pred_instances" not in sample:
        raise DataError(f"the model returned no 'pred_instances' for the image '{name}'")
    predicted = _entries(sample["pred_instances"], name, with_masks)
    height, width = sample.get("ori_shape", sample.get("img_shape", (0, 0)))[:2]
    true = _true_entries(sample, name, with_masks) if with_truth else None
    return ImageResult(sample.get("img_id"), (int(height), int(width)), predicted, true)


def _true_entries(sample: Mapping[str, Any], name: str, with_masks: bool) -> list[Entry]:
    if "gt_instances" not in sample:
        raise DataError(
            f"the image '{name}' has no ground truth: 'gt_instances' is missing",
            notes=["Load annotations in the validation or test pipeline, or set `ann_file` in CocoMetric."],
        )
    scale = sample.get("scale_factor", (1.0, 1.0))
    if with_masks and not np.allclose(scale, 1):
        raise DataError(
            f"the masks of the image '{name}' were resized and cannot be used as ground truth",
            notes=["Set `ann_file` in CocoMetric."],
        )
    entries = _entries(sample["gt_instances"], name, with_masks, scale, iscrowd=0)
    if "ignored_instances" in sample:
        entries += _entries(sample["ignored_instances"], name, with_masks, scale, iscrowd=1)
    return entries


def _entries(
    instances: Any, name: str, with_masks: bool, scale: Sequence[float] = (1.0, 1.0), **common: int
) -> list[Entry]:
    """Converts instances to COCO annotations. Divides coordinates by `scale`."""
    if with_masks and "masks" not in instances:
        kind = "predicted" if "scores" in instances else "ground-truth"
        raise DataError(f"metric='segm' needs masks, but the {kind} instances of the image '{name}' have none")
    boxes = as_array(instances["bboxes"]).astype(np.float64).reshape(-1, 4) / np.tile(scale, 2)
    boxes[:, 2:] -= boxes[:, :2]
    columns = {"bbox": boxes.tolist(), "category_id": as_array(instances["labels"]).astype(int).tolist()}
    if "scores" in instances:
        columns["score"] = as_array(instances["scores"]).tolist()
    if with_masks:
        columns["segmentation"] = [encode_mask(mask) for mask in as_array(instances["masks"])]
    return [dict(zip(columns, row, strict=True)) | common for row in zip(*columns.values(), strict=True)]


def as_truth(results: Sequence[ImageResult], ids: Sequence[Any], classes: Sequence[str]) -> dict[str, Any]:
    """Returns the ground truth of `results` as the content of a COCO file. Category ids are class indices.

    `ids` contains the id of each image.
    """
    images, entries = [], []
    for (_, (height, width), _, true), image_id in zip(results, ids, strict=True):
        images.append({"id": image_id, "file_name": str(image_id), "height": height, "width": width})
        entries += [{**entry, "image_id": image_id} for entry in true or ()]
    annotations = [
        {**entry, "id": number, "area": area(entry, of_mask="segmentation" in entry)}
        for number, entry in enumerate(entries, start=1)
    ]
    categories = [{"id": label, "name": name} for label, name in enumerate(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def area(entry: Mapping[str, Any], *, of_mask: bool) -> float:
    """Returns the area of an annotation's box in pixels or, if `of_mask` is set, of its run-length encoded mask."""
    if of_mask:
        return float(coco_package("measuring masks").mask.area(entry["segmentation"]))
    return float(entry["bbox"][2] * entry["bbox"][3])


def encode_mask(mask: NDArray[Any]) -> dict[str, Any]:
    """Encodes a mask of shape ``(H, W)`` as JSON-serializable compressed run lengths."""
    runs = mask_tools("writing masks").encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in runs["size"]], "counts": runs["counts"].decode("ascii")}


def category_ids(
    classes: Sequence[str], categories: Sequence[Mapping[str, Any]], ann_file: str, *, key: str
) -> list[Any]:
    """Returns the category id of each class. `key` is the config key to report in errors.

    Raises:
        DataError: The file lacks a category, or two categories have the same name or the same id.
    """
    pairs = {(category["id"], str(category["name"])) for category in categories}
    by_name = {name: number for number, name in pairs}
    if not len(pairs) == len(by_name) == len(set(by_name.values())):
        raise DataError(f"the file '{ann_file}' has two categories with the same name or the same id", key=key)
    if missing := [name for name in classes if name not in by_name]:
        raise DataError(
            f"the file '{ann_file}' has no category '{missing[0]}'",
            key=key,
            found=classes,
            suggestion=nearest(missing[0], by_name),
            notes=["categories: " + (", ".join(sorted(by_name)) or "none")],
        )
    return [by_name[name] for name in classes]
