"""A dataset of images with boxes and masks in COCO format."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from footplate.data import BaseDataset
from footplate.data.annotations import check_segmentation, join_root, load_data_file
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.messages import nearest
from footplate.registry import DATASETS

_logger = logging.getLogger("footplate.tasks")
_LONGEST_SIDE = 1_000_000  # pixels
_LARGEST_NUMBER = 1e12  # the limit of box coordinates
_FILTERS = {"filter_empty_gt": False, "min_size": 0}


@DATASETS.register_module()
class CocoDataset(BaseDataset):
    """A dataset of the images and instances of a COCO file.

    A record has `img_path`, `img_id`, `width`, `height` and `instances`. Each instance is a dict with `bbox` (x1 y1 x2
    y2, clipped to the image), `bbox_label` (an index into the classes), `ignore_flag` (1 for crowds) and `mask` (the
    segmentation as in the file). `LoadAnnotations` converts them to arrays.

    Boxes without area or entirely outside their image are skipped; one warning reports their number.

    Accepts the arguments of `BaseDataset`, with these meanings:

    - `ann_file`: The COCO file, JSON.
    - `data_prefix`: `dict(img=...)`, the folder that `file_name` is relative to.
    - `metainfo`: `dict(classes=[...])` selects and orders the categories of the file; by default all, in the order of
      the file.
    - `filter_cfg`: `filter_empty_gt=True` removes images without instances, and `min_size=32` removes images whose
      shorter side has fewer pixels. Ignored in `test_mode`.
    - `test_mode`: Whether to keep all images, and to accept a file without annotations.

    Raises:
        DataError: The file is not in COCO format, an annotation refers to an unknown image or category, a class is not
            a category of the file, or no image remains after filtering.
        ArgumentError: `filter_cfg` has an unknown key.
    """

    def load_data_list(self) -> list[Any]:
        """Returns a record for each image of the file.

        Raises:
            DataError: The file cannot be read, or is not in COCO format.
        """
        if not self.ann_file:
            raise DataError(f"the dataset '{type(self).__name__}' has no ann_file", key="ann_file")
        with at_key("ann_file"):
            content = _sections(load_data_file(self.ann_file), self.ann_file, test_mode=self.test_mode)
        labels = self._labels(content["categories"])
        reader = _Reader(self.ann_file, content, labels)
        prefix = self.data_prefix.get("img", self.data_prefix.get("img_path", self.data_root))
        records = [{**record, "img_path": join_root(prefix, record["img_path"])} for record in reader.records()]
        reader.report()
        return records

    def filter_data(self) -> list[Any]:
        """Returns the records that pass `filter_cfg`.

        Raises:
            DataError: No image remains.
            ArgumentError: `filter_cfg` has an unknown key.
        """
        for key in self.filter_cfg or ():
            if key not in _FILTERS:
                near = nearest(key, _FILTERS)
                raise ArgumentError(f"there is no filter '{key}'", key=f"filter_cfg.{key}", suggestion=near)
        chosen = {**_FILTERS, **(self.filter_cfg or {})}
        records = list(self.data_list)
        if not self.test_mode:
            records = [each for each in records if min(each["width"], each["height"]) >= chosen["min_size"]]
            large = len(records)
            if chosen["filter_empty_gt"]:
                records = [each for each in records if each["instances"]]
            _check_some(records, self.ann_file, len(self.data_list), large)
        else:
            _check_some(records, self.ann_file, len(self.data_list), len(records))
        return records

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the class indices of the instances of an image."""
        return [each["bbox_label"] for each in self.get_data_info(idx)["instances"]]

    def _labels(self, categories: Sequence[Mapping[str, Any]]) -> dict[Any, int]:
        """Maps category ids to class indices; categories that are not selected are missing."""
        ids = {str(each["name"]): each["id"] for each in categories}
        classes = self._metainfo.setdefault("classes", tuple(ids))
        for name in classes:
            if name not in ids:
                raise DataError(
                    f"the file '{self.ann_file}' has no category '{name}'",
                    key="metainfo.classes",
                    suggestion=nearest(name, ids),
                    notes=["categories: " + ", ".join(ids)],
                )
        return {ids[name]: position for position, name in enumerate(classes)}


def check_mask(annotation: Mapping[str, Any], picture: Mapping[str, Any], ann_file: str) -> None:
    """Raises an error if the mask of an annotation is malformed, or takes far more memory than its image.

    Raises:
        DataError: The mask cannot be used.
    """
    where = f"the mask of annotation {annotation.get('id', '?')} of '{ann_file}' cannot be used"
    try:
        check_segmentation(annotation["segmentation"], (picture["height"], picture["width"]))
    except DataError as error:
        raise DataError(f"{where}: {error.message}", key="segmentation") from error
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        reason = f"{where}: it is neither a list of polygons nor run lengths"
        raise DataError(reason, key="segmentation", found=str(annotation["segmentation"])[:60]) from error


class _Box(NamedTuple):
    """A skipped box: its annotation and image, and the reason."""

    annotation: Any
    picture: str
    why: str


class _Reader:
    """Converts the sections of a COCO file to records."""

    def __init__(self, ann_file: str, content: Mapping[str, Any], labels: Mapping[Any, int]) -> None:
        self._ann_file = ann_file
        self._labels = labels
        self._categories = {each["id"] for each in content["categories"]}
        self._pictures = {each["id"]: each for each in content["images"]}
        if len(self._pictures) < len(content["images"]):
            twice, _ = Counter(each["id"] for each in content["images"]).most_common(1)[0]
            raise DataError(f"the file '{ann_file}' has two pictures of the id {twice}")
        self._annotations: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for each in content["annotations"]:
            self._annotations[self._checked(each)["image_id"]].append(each)
        self._left_out: list[_Box] = []

    def records(self) -> list[dict[str, Any]]:
        """Returns a record for each image, with its path as in the file."""
        return [
            {
                "img_path": picture["file_name"],
                "img_id": number,
                "width": int(picture["width"]),
                "height": int(picture["height"]),
                "instances": self._instances(picture),
            }
            for number, picture in self._pictures.items()
        ]

    def report(self) -> None:
        """Logs the number of skipped boxes, and the first of them."""
        if self._left_out:
            first = self._left_out[0]
            _logger.warning(
                "%d of the boxes of '%s' are left out; the first is annotation %s of '%s', which %s",
                len(self._left_out),
                self._ann_file,
                first.annotation,
                first.picture,
                first.why,
            )

    def _checked(self, annotation: Mapping[str, Any]) -> Mapping[str, Any]:
        where = f"annotation {annotation.get('id', '?')} of '{self._ann_file}'"
        for key in ("image_id", "category_id", "bbox"):
            if key not in annotation:
                raise DataError(f"{where} has no '{key}'", found=sorted(annotation))
            if key != "bbox" and not _VALID["id"](annotation[key]):
                raise DataError(f"the '{key}' of {where} is not {_WANTED['id']}", key=key, found=annotation[key])
        if annotation["image_id"] not in self._pictures:
            number = annotation["image_id"]
            raise DataError(f"{where} belongs to a picture that is not there", key="image_id", found=number)
        if annotation["category_id"] not in self._categories:
            known = ", ".join(map(str, sorted(self._categories)[:20]))
            raise DataError(
                f"{where} has an unknown category",
                key="category_id",
                found=annotation["category_id"],
                notes=[f"categories: {known}"],
            )
        if not _is_box(annotation["bbox"]):
            raise DataError(f"the box of {where} is not four numbers x y w h", key="bbox", found=annotation["bbox"])
        return annotation

    def _instances(self, picture: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = []
        for annotation in self._annotations.get(picture["id"], ()):
            if annotation["category_id"] not in self._labels:
                continue
            x, y, width, height = annotation["bbox"]
            box = [max(x, 0.0), max(y, 0.0), min(x + width, picture["width"]), min(y + height, picture["height"])]
            if box[2] <= box[0] or box[3] <= box[1]:
                why = "has no area" if width <= 0 or height <= 0 else "lies outside of the picture"
                self._left_out.append(_Box(annotation.get("id", "?"), picture["file_name"], why))
                continue
            label = self._labels[annotation["category_id"]]
            instance = {"bbox": box, "bbox_label": label, "ignore_flag": int(bool(annotation.get("iscrowd", 0)))}
            if annotation.get("segmentation"):
                instance["mask"] = annotation["segmentation"]
                check_mask(annotation, picture, self._ann_file)
            found.append(instance)
        return found


def _sections(content: Any, ann_file: str, *, test_mode: bool) -> dict[str, Any]:
    """Validates the content of a COCO file, and returns its sections."""
    wanted = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name"), "annotations": ()}
    if isinstance(content, Mapping) and test_mode:
        content = {"annotations": [], **content}
    if not isinstance(content, Mapping) or not wanted.keys() <= content.keys():
        found = sorted(content) if isinstance(content, Mapping) else type(content)
        raise DataError(f"the file '{ann_file}' lacks one of {', '.join(wanted)}, so it is no COCO file", found=found)
    for section, keys in wanted.items():
        if not isinstance(content[section], list):
            found = type(content[section])
            raise DataError(f"'{section}' of the file '{ann_file}' is not a list", found=found)
        for position, entry in enumerate(content[section]):
            if not isinstance(entry, Mapping) or not set(keys) <= entry.keys():
                found = sorted(entry) if isinstance(entry, Mapping) else entry
                lack = f"lacks one of {', '.join(keys)}" if keys else "is no dict"
                raise DataError(f"entry {position} of '{section}' in '{ann_file}' {lack}", found=found)
            for key in keys:
                if not _VALID[key](entry[key]):
                    where = f"entry {position} of '{section}' in '{ann_file}'"
                    raise DataError(f"the '{key}' of {where} is not {_WANTED[key]}", found=entry[key])
    return dict(content)


def _is_box(value: Any) -> bool:
    """Checks whether a value is a list of four finite numbers."""
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(each, (int, float)) and -_LARGEST_NUMBER <= each <= _LARGEST_NUMBER for each in value)
    )


def _is_side(value: Any) -> bool:
    """Checks whether a value is a valid number of pixels; some files write integers as floats."""
    return isinstance(value, (int, float)) and 1 <= value <= _LONGEST_SIDE and value == int(value)


_VALID: Mapping[str, Callable[[Any], bool]] = {
    "id": lambda value: isinstance(value, (int, float, str)),
    "file_name": lambda value: isinstance(value, str),
    "name": lambda value: isinstance(value, (int, str)),
    "width": _is_side,
    "height": _is_side,
}
_WANTED = {
    "id": "a number or a text",
    "file_name": "a text",
    "name": "a text",
    "width": f"a whole number from 1 to {_LONGEST_SIDE}",
    "height": f"a whole number from 1 to {_LONGEST_SIDE}",
}


def _check_some(records: Sequence[Any], ann_file: str, pictures: int, large: int) -> None:
    if records:
        return
    if not pictures:
        raise DataError(f"the dataset is empty: the file '{ann_file}' has no pictures", key="ann_file")
    raise DataError(
        f"the dataset is empty: none of the {pictures} pictures of '{ann_file}' is left",
        key="filter_cfg",
        notes=[f"{pictures - large} are smaller than min_size, {large} have no instance of the classes"],
    )
