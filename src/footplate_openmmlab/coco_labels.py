"""Checks the labels of a code base's COCO dataset."""

import json
import logging
from typing import Any

from footplate.storage import is_local, read_bytes
from footplate_vision.detection.coco_format import category_ids

_logger = logging.getLogger("footplate.data")


def check_categories(dataset: Any) -> None:
    """Checks whether the labels of a COCO dataset (`cat2label`) match the classes in its metainfo.

    MMDetection's CocoDataset assigns labels in the category order of the annotation file and skips missing categories.
    If only the order differs from the classes, logs a warning. Does nothing if the dataset has no classes, or if its
    annotation file is remote or in another format.

    Raises:
        DataError: A class is missing from the annotation file.
    """
    labels, path = dataset.cat2label, getattr(dataset, "ann_file", None)
    classes = getattr(dataset, "metainfo", {}).get("classes")
    if not classes or not isinstance(path, str) or not is_local(path):
        return
    content = read_bytes(path)  # only the categories are parsed, because such files may be large
    text = content[content.rfind(b'"categories"') :].decode().partition(":")[2].lstrip()
    try:
        categories = json.JSONDecoder().raw_decode(text)[0]
        names = {category["id"]: str(category["name"]) for category in categories}
    except (ValueError, LookupError, TypeError):  # another format
        return
    is_first_generation = hasattr(dataset, "CLASSES")
    if len(labels) < len(classes):
        category_ids(classes, categories, path, key="classes" if is_first_generation else "metainfo.classes")
    numbered = [names.get(number) for number in sorted(labels, key=labels.__getitem__)]
    if numbered != list(classes):
        _logger.warning(
            "The classes are in the wrong order: the labels in %s follow the category order of '%s'. Set %s.",
            type(dataset).__name__,
            path,
            f"classes={tuple(numbered)}" if is_first_generation else f"metainfo=dict(classes={tuple(numbered)})",
        )
