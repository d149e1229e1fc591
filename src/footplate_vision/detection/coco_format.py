"""Reads COCO files, and converts predictions and ground truth to the COCO format."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from footplate.data.annotations import load_data_file
from footplate.data.coco_masks import check_segmentation, coco_package, mask_tools
from footplate.data.findings import Findings
from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.messages import list_names, nearest
from footplate.visualization import as_array

Entry = dict[str, Any]  # an annotation or a prediction in the COCO format

_SECTIONS = ("images", "categories", "annotations")
_LIMIT = 1e9  # pixels
_BACKGROUND = "_background_"  # LabelMe's first category


def _is_id(value: Any) -> bool:
    return type(value) in (int, float, str) and value != ""


def _is_name(value: Any) -> bool:
    return type(value) in (int, float, str) and str(value).strip() != ""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LIMIT < value < _LIMIT


def _is_side(value: Any) -> bool:
    return _is_number(value) and value == int(value) > 0


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_flag(value: Any) -> bool:
    return value is None or (type(value) in (bool, int, float) and value in (0, 1))


# The fields of each section that are read: how to check a value, and what it must be.
_FIELDS: dict[str, dict[str, tuple[Callable[[Any], bool], str]]] = {
    "images": {
        "id": (_is_id, "a number or text"),
        "file_name": (lambda value: isinstance(value, str) and _is_name(value), "the path of an image"),
        "width": (_is_side, "a positive number of pixels"),
        "height": (_is_side, "a positive number of pixels"),
    },
    "categories": {"id": (_is_id, "a number or text"), "name": (_is_name, "a name")},
    "annotations": {
        "image_id": (_is_id, "the id of an image"),
        "category_id": (_is_id, "the id of a category"),
        "bbox": (_is_box, "four finite numbers: x, y, width, height"),
        "iscrowd": (_is_flag, "0 or 1"),
        "ignore": (_is_flag, "0 or 1"),
    },
}


def load_coco_file(findings: Findings, *, optional: Collection[str] = (), needs_masks: bool = False) -> dict[str, Any]:
    """Reads a COCO file, and checks every field that training and evaluation read.

    Returns the sections of the file. Categories that are no classes are left out: one without annotations that is the
    supercategory of all others, as in files by Roboflow, or LabelMe's background. Annotations of unknown images are
    left out, too. Each annotation has an `area`. A `segmentation` is a list of polygons or a run-length encoding; one
    that cannot be used is removed.

    Args:
        findings: Receives warnings about the file at `findings.source`, which the caller reports.
        optional: What may be missing: the section "annotations", or the key "bbox" of an annotation.
        needs_masks: Whether an annotation without a usable mask is an error.

    Raises:
        DataError: The file is not in COCO format, or an entry is invalid. The message names the first invalid entry.
    """
    with at_key("ann_file"):
        content = load_data_file(findings.source)
        if isinstance(content, dict) and "annotations" in optional:
            content.setdefault("annotations", [])
        if not isinstance(content, dict) or not all(isinstance(content.get(section), list) for section in _SECTIONS):
            raise DataError(
                f"the file '{findings.source}' is not a COCO file: it must have the lists {', '.join(_SECTIONS)}",
                found=list(content) if isinstance(content, dict) else type(content),
            )
        for section, fields in _FIELDS.items():
            for position, entry in enumerate(content[section]):
                where = f"entry {position} of '{section}'"
                if not isinstance(entry, dict):
                    findings.error(f"each entry of '{section}' must be a dict", where, found=entry)
                    continue
                for key, (is_valid, requirement) in fields.items():
                    value = entry.get(key)
                    if not is_valid(value) and not (value is None and key in optional):
                        findings.error(f"'{key}' of '{section}' must be {requirement}", where, found=value)
        findings.raise_errors()
        for category in content["categories"]:
            category["name"] = str(category["name"])
        used = {str(annotation["category_id"]) for annotation in content["annotations"]}
        content["categories"] = [
            category for category in content["categories"] if not _is_placeholder(category, content["categories"], used)
        ]
        for section, key in (("images", "id"), ("categories", "id"), ("categories", "name")):
            positions = defaultdict[Any, list[int]](list)
            for position, entry in enumerate(content[section]):
                positions[entry[key]].append(position)
            for value, places in positions.items():
                if len(places) > 1:
                    where = f"entries {list_names(places, 4)} of '{section}'"
                    findings.error(f"entries of '{section}' have the same '{key}'", where, found=value)
        ids = Counter(str(annotation["id"]) for annotation in content["annotations"] if "id" in annotation)
        for number, count in ids.items():
            if count > 1:
                findings.warn("annotations have the same 'id', and all are used", f"{count} with the id {number}")
        images = {image["id"]: image for image in content["images"]}
        known = {category["id"] for category in content["categories"]}
        for key, entries in (("image_id", images), ("category_id", known)):
            by_text = {str(number): number for number in entries}
            for annotation in content["annotations"]:  # VIA writes the ids of images as text in annotations only
                if annotation[key] not in entries:
                    annotation[key] = by_text.get(str(annotation[key]), annotation[key])
        has_annotations = bool(content["annotations"])
        content["annotations"] = [
            annotation
            for annotation in content["annotations"]
            if _is_usable(annotation, images, known, findings, needs_masks=needs_masks)
        ]
        if has_annotations and not content["annotations"]:
            findings.error("no annotation is of an image in the file", "all of 'annotations'", found=list(images)[:3])
        findings.raise_errors()
    return content


def _is_placeholder(category: Entry, categories: Sequence[Entry], used: Collection[Any]) -> bool:
    """Checks whether a category only groups all others, or stands for the background."""
    parents = (other.get("supercategory") for other in categories if other is not category)
    is_root = bool(used) and len(categories) > 1 and all(parent == category["name"] for parent in parents)
    return str(category["id"]) not in used and (is_root or category["name"] == _BACKGROUND)


def _is_usable(
    annotation: Entry, images: Mapping[Any, Entry], known: Collection[Any], findings: Findings, *, needs_masks: bool
) -> bool:
    """Checks the references, the area and the mask of an annotation, and completes it."""
    image = images.get(annotation["image_id"])
    annotation["iscrowd"] = int(annotation.get("iscrowd") or 0)
    if image is None:
        problem = "annotations of images that are not in the file are left out"
        findings.warn(problem, name_of(annotation, annotation["image_id"]))
        return False
    where = name_of(annotation, image["file_name"])
    if annotation["category_id"] not in known:
        problem = "annotations have a 'category_id' that is not in 'categories'"
        advice = f"The ids of 'categories' are {list_names(sorted(map(repr, known)), 10)}."
        findings.error(problem, where, found=annotation["category_id"], advice=advice)
    size: Any = annotation.get("area")
    if annotation.get("bbox") is not None and not (_is_number(size) and size > 0):
        if "area" in annotation:
            findings.warn("the area of the box replaces an 'area' that is not a positive number", where)
        annotation["area"] = area(annotation, of_mask=False)
    segmentation = annotation.pop("segmentation", None)
    if not segmentation and not needs_masks:
        return True
    try:
        annotation["segmentation"] = check_segmentation(segmentation, (int(image["height"]), int(image["width"])))
    except DataError as error:
        if needs_masks:
            findings.error(error.message, where, found=segmentation)
        else:
            findings.warn(f"{error.message}; these annotations have no mask", where)
    return True


def name_of(annotation: Mapping[str, Any], image: object) -> str:
    """Returns the name of an annotation of an image in messages."""
    return f"annotation {annotation.get('id', 'without id')} of image '{image}'"


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
    classes: Sequence[str], categories: Sequence[Mapping[str, Any]], ann_file: str, *, key: str, may_lack: bool = False
) -> list[Any]:
    """Returns the category id of each class. `key` is the config key to report in errors.

    With `may_lack`, a file whose categories are all classes may lack others, because some tools write only the
    categories that occur. The name of such a class is returned instead of an id.

    Raises:
        DataError: The file lacks a category.
    """
    by_name = {str(category["name"]): category["id"] for category in categories}
    missing = [name for name in classes if name not in by_name]
    if missing and not (may_lack and by_name.keys() <= set(classes)):
        raise DataError(
            f"the file '{ann_file}' has no category '{missing[0]}'",
            key=key,
            found=classes,
            suggestion=nearest(missing[0], by_name),
            notes=["categories: " + (", ".join(sorted(by_name)) or "none")],
        )
    return [by_name.get(name, name) for name in classes]
