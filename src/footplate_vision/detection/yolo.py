"""Reads YOLO labels: one text file per image, with a line for each object."""

import logging
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from footplate.data.annotations import explain_read_errors, read_lines
from footplate.data.findings import Findings
from footplate.data.label_warnings import warn_about_missing_classes
from footplate.data.transforms.loading import open_image, oriented_size
from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.messages import pluralize
from footplate.registry import DATASETS
from footplate.storage import join, open_file
from footplate_vision.class_names import warn_about_order
from footplate_vision.detection.data import CocoDataset
from footplate_vision.image_files import IMAGE_SUFFIXES, check_images, find_images

_logger = logging.getLogger("footplate.vision")
_TOLERANCE = 0.01  # by which coordinates may lie outside the image, as in Ultralytics
_LISTS_OF_CLASSES = ("classes", "labels")  # files that annotation tools write next to the labels


@DATASETS.register_module()
class YoloDataset(CocoDataset):
    """A dataset of images and YOLO labels.

    The labels of an image are in a text file with a matching name::

        data/images/train/a/0001.jpg
        data/labels/train/a/0001.txt

    Each line is an object: the index of its class, and the x and y of the center, the width and the height of its box;
    or the index and the corners of a polygon. Coordinates are fractions of the size of the image after its EXIF
    orientation is applied. An image without a text file, or with an empty one, has no objects.

    The records and `filter_cfg` are those of `CocoDataset`. A polygon becomes the `mask` of its instance. Repeated
    lines and boxes without an area are left out with a warning. With `on_error="skip"`, so are images with invalid
    lines, unless `test_mode` is set.

    Takes the arguments of `BaseDataset`. These have a special meaning:

    - `data_prefix`: `dict(img=..., labels=...)`, the folders of the images and of the text files.
    - `ann_file`: A text file with one image name per line, relative to the folder of images; by default, all images.
    - `metainfo`: `dict(classes=[...])`, the names of the classes in the order of their indices; required.

    Raises:
        DataError: A folder is missing, there are no images or no labels, a line is invalid, or `classes` is missing.
    """

    def load_data_list(self) -> list[Any]:
        """Returns a record for each image."""
        if not self._metainfo.get("classes"):
            notes = ["List them in the order of their indices, as in data.yaml."]
            raise DataError("YoloDataset needs the names of the classes", key="metainfo.classes", notes=notes)
        folder = self.data_prefix.get("img", self.data_root)
        labels = self.data_prefix.get("labels", folder)
        warn_about_order(self._metainfo["classes"], labels)
        is_listed = bool(self.ann_file)
        if is_listed:
            with at_key("ann_file"):
                names = [line.strip() for line in read_lines(self.ann_file) if line.strip()]
        else:
            names = find_images(folder, IMAGE_SUFFIXES)
        check_images(names, self.ann_file, folder, IMAGE_SUFFIXES)
        self.ann_file = labels  # for messages
        files = {os.path.splitext(name)[0]: name for name in find_images(labels, (".txt",))}
        if not files and not self.test_mode:
            raise DataError(f"there are no label files in '{labels}'", key="data_prefix.labels")
        findings = Findings(labels)
        records = list[dict[str, Any]]()
        users = dict[str, str]()
        for number, name in enumerate(names):
            path, stem, lines = join(folder, name), os.path.splitext(name)[0], list[str]()
            if users.setdefault(stem, name) != name:
                findings.warn("images that differ only in their suffix have the same label file", name)
            try:
                with (
                    explain_read_errors("image", path),
                    open_file(path) as file,
                    open_image(file, f"image '{path}'") as image,
                ):
                    width, height = oriented_size(image)
                if stem in files:
                    lines = read_lines(join(labels, files[stem]))
            except DataError as error:
                self._refuse(findings, "images or labels cannot be read", name, error.message)
                continue
            instances = self._instances(lines, files.get(stem, ""), (width, height), findings)
            if instances is not None:
                size = {"width": width, "height": height}
                records.append({"img_path": path, "img_id": number, **size, "instances": instances})
        for stem in sorted(files.keys() - users.keys()):
            if not is_listed and os.path.basename(stem) not in _LISTS_OF_CLASSES:
                findings.warn(f"label files have no image in '{folder}'", files[stem])
        findings.report()
        if unlabeled := sum(os.path.splitext(name)[0] not in files for name in names):
            level = logging.WARNING if 2 * unlabeled > len(names) else logging.INFO
            amount = f"{unlabeled} of {pluralize(len(names), 'image')}"
            _logger.log(level, "Without a label file, and so without objects: %s in '%s'.", amount, folder)
        present = {each["bbox_label"] for record in records for each in record["instances"]}
        warn_about_missing_classes(self._metainfo["classes"], present, labels)
        return records

    def _refuse(self, findings: Findings, problem: str, where: str, found: str) -> None:
        """Adds a problem for which an image is skipped, or which is an error without `on_error="skip"`."""
        if self.skips_errors:
            findings.warn(f"{problem}, so their images are skipped", f"{where} ({found})")
        else:
            findings.error(problem, where, found=found)

    def _instances(
        self, lines: list[str], name: str, size: tuple[int, int], findings: Findings
    ) -> list[dict[str, Any]] | None:
        """Returns the objects of an image, or None if a line is invalid."""
        instances: list[dict[str, Any]] = []
        is_valid = True
        for number, line in enumerate(map(str.strip, lines), 1):
            where = f"{name}:{number}"
            if not line:
                continue
            try:
                label, corners = _parse_line(line, len(self._metainfo["classes"]))
            except ValueError as error:
                self._refuse(findings, str(error), where, line)
                is_valid = False
                continue
            corners *= size
            box = [*corners.min(0).tolist(), *corners.max(0).tolist()]
            instance = {"bbox": box, "bbox_label": label, "ignore_flag": 0}
            if len(corners) > 2:
                instance["mask"] = [corners.ravel().tolist()]
            if instance in instances:
                findings.warn("repeated lines are left out", where)
            elif not np.ptp(corners, axis=0).all():
                findings.warn("boxes without an area in the image are left out", where)
            else:
                instances.append(instance)
        return instances if is_valid else None


def _parse_line(line: str, num_classes: int) -> tuple[int, NDArray[np.float64]]:
    """Returns a class, and the two corners of a box or all corners of a polygon, ``(N, 2)``, from 0 to 1.

    Raises:
        ValueError: The line is invalid. The message states the problem without the values.
    """
    try:
        label, *values = map(float, line.split())
    except ValueError:
        raise ValueError("lines must contain numbers") from None
    is_box = len(values) == 4
    if not is_box and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            "lines must have 5 numbers (class, x, y, width, height), or a class and the corners of a polygon"
        )
    if not 0 <= label < num_classes or label % 1:
        raise ValueError(f"classes must be integers from 0 to {num_classes - 1}")
    points = np.array(values).reshape(-1, 2)
    is_inside = ((points >= -_TOLERANCE) & (points <= 1 + _TOLERANCE)).all()
    if not is_inside or (is_box and (points[1] < 0).any()):
        raise ValueError("coordinates must be fractions of the size of the image, from 0 to 1")
    if is_box:
        center, sides = points
        points = np.stack([center - sides / 2, center + sides / 2])
    return int(label), points.clip(0, 1)
