"""The COCO format: checks of files, and conversion of samples."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from footplate.data.annotations import check_segmentation, coco_package, encode_mask
from footplate.errors import DataError
from footplate.messages import nearest
from footplate.visualization import as_array

_LONGEST_SIDE = 1_000_000  # pixels
_LARGEST_NUMBER = 1e12  # the limit of box coordinates


def category_ids(
    classes: Sequence[str], categories: Sequence[Mapping[str, Any]], ann_file: str, *, key: str
) -> list[Any]:
    """Returns the category id of each class.

    Raises:
        DataError: The file lacks a category, or another category has the same name or the same id. `key` is the key of
            the classes in the config.
    """
    ids: dict[str, Any] = {}
    names: dict[Any, str] = {}
    for each in categories:
        name, number = str(each["name"]), each["id"]
        if ids.setdefault(name, number) != number and name in classes:
            raise DataError(f"the file '{ann_file}' has two categories named '{name}'", found=[ids[name], number])
        same_id = [names.setdefault(number, name), name]
        if same_id[0] != name and not set(same_id).isdisjoint(classes):
            raise DataError(f"the file '{ann_file}' has two categories with the id {number}", found=same_id)
    for name in classes:
        if name not in ids:
            raise DataError(
                f"the file '{ann_file}' has no category '{name}'",
                key=key,
                suggestion=nearest(name, ids),
                notes=["categories: " + ", ".join(ids)],
            )
    return [ids[name] for name in classes]


def check_mask(annotation: Mapping[str, Any], image: Mapping[str, Any], ann_file: str) -> None:
    """Raises a DataError if the mask of an annotation is malformed, or takes far more memory than its image."""
    where = f"the mask of annotation {annotation.get('id', '?')} of '{ann_file}' cannot be used"
    try:
        check_segmentation(annotation["segmentation"], (image["height"], image["width"]))
    except DataError as error:
        raise DataError(f"{where}: {error.message}", key="segmentation") from error
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        reason = f"{where}: it is neither a list of polygons nor run lengths"
        raise DataError(reason, key="segmentation", found=str(annotation["segmentation"])[:60]) from error


def _is_side(value: Any) -> bool:
    """Checks whether a value is a valid number of pixels; some files write integers as floats."""
    return isinstance(value, (int, float)) and 1 <= value <= _LONGEST_SIDE and value == int(value)


# For each key of an entry: the check of its value, and a description of valid values.
_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (lambda value: isinstance(value, (int, float, str)), "a number or a string"),
    "image_id": (lambda value: isinstance(value, (int, float, str)), "a number or a string"),
    "category_id": (lambda value: isinstance(value, (int, float, str)), "a number or a string"),
    "file_name": (lambda value: isinstance(value, str), "a string"),
    "name": (lambda value: isinstance(value, (int, str)), "a string"),
    "width": (_is_side, f"an integer from 1 to {_LONGEST_SIDE}"),
    "height": (_is_side, f"an integer from 1 to {_LONGEST_SIDE}"),
    "bbox": (
        lambda value: (
            isinstance(value, list)
            and len(value) == 4
            and all(isinstance(each, (int, float)) and abs(each) <= _LARGEST_NUMBER for each in value)
        ),
        "four numbers: x, y, width, height",
    ),
}
_SECTIONS = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name"), "annotations": ()}


def check_sections(content: Any, ann_file: str) -> None:
    """Raises a DataError if a section of a COCO file, or an entry of `images` or `categories`, is malformed."""
    if not isinstance(content, Mapping) or not _SECTIONS.keys() <= content.keys():
        found = sorted(content) if isinstance(content, Mapping) else type(content)
        reason = f"the file '{ann_file}' is not a COCO file: it must have the keys {', '.join(_SECTIONS)}"
        raise DataError(reason, found=found)
    for section, keys in _SECTIONS.items():
        if not isinstance(content[section], list):
            raise DataError(f"'{section}' of the file '{ann_file}' is not a list", found=type(content[section]))
        for position, entry in enumerate(content[section]):
            where = f"entry {position} of '{section}' in '{ann_file}'"
            if not isinstance(entry, Mapping):
                raise DataError(f"{where} is not a dict", found=entry)
            if not set(keys) <= entry.keys():
                raise DataError(f"{where} must have the keys {', '.join(keys)}", found=sorted(entry))
            for key in keys:
                is_valid, wanted = _KEYS[key]
                if not is_valid(entry[key]):
                    raise DataError(f"the '{key}' of {where} must be {wanted}", found=entry[key])


def check_annotations(content: Mapping[str, Any], ann_file: str) -> None:
    """Raises a DataError if an image id occurs twice, or an annotation is incomplete or refers to an unknown entry."""
    images = Counter(each["id"] for each in content["images"])
    if len(images) < len(content["images"]):
        raise DataError(f"the file '{ann_file}' has two images with the id {images.most_common(1)[0][0]}")
    categories = {each["id"] for each in content["categories"]}
    for annotation in content["annotations"]:
        where = f"annotation {annotation.get('id', '?')} of '{ann_file}'"
        for key in ("image_id", "category_id", "bbox"):
            if key not in annotation:
                raise DataError(f"{where} has no '{key}'", found=sorted(annotation))
            is_valid, wanted = _KEYS[key]
            if not is_valid(annotation[key]):
                raise DataError(f"the '{key}' of {where} must be {wanted}", key=key, found=annotation[key])
        if annotation["image_id"] not in images:
            raise DataError(f"{where} refers to an unknown image", key="image_id", found=annotation["image_id"])
        if annotation["category_id"] not in categories:
            known = ", ".join(map(str, sorted(categories)[:20]))
            raise DataError(
                f"{where} has an unknown category",
                key="category_id",
                found=annotation["category_id"],
                notes=[f"categories: {known}"],
            )


class Instances(NamedTuple):
    """The instances of one image, in pixels of the original image.

    Attributes:
        boxes: ``(N, 4)``, x1 y1 x2 y2.
        labels: ``(N,)``, class indices.
        scores: ``(N,)``; 1 for the ground truth.
        masks: The run-length encoded masks, or None.
        crowd: ``(N,)``, bool; False for predictions.
    """

    boxes: npt.NDArray[np.float64]
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
    true = _truth(sample, name, with_masks=with_masks) if with_truth else None
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


def _truth(sample: Mapping[str, Any], name: str, *, with_masks: bool) -> Instances:
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
