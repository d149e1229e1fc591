"""A dataset of images and label maps in folders."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from footplate.data import BaseDataset
from footplate.data.annotations import read_lines
from footplate.data.transforms import LoadAnnotations
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.messages import list_names, nearest, pluralize
from footplate.registry import DATASETS
from footplate.storage import join, list_dir, missing_path_notes

_logger = logging.getLogger("footplate.tasks")
_MOST_TO_COMPARE = 10_000
_INSPECTED = 16  # label maps
_MOST_NAMES = 4
_DIGITS = re.compile(r"\d+")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@DATASETS.register_module(["BaseSegDataset", "SegFolderDataset"])
class BaseSegDataset(BaseDataset):
    """A dataset of images in one folder and label maps with matching names in another.

    A label map is a single-channel image of class indices, with 255 for ignored pixels::

        data/street/images/train/a/0001.jpg
        data/street/masks/train/a/0001.png

    Args:
        ann_file: A text file with one image name per line, with or without suffix. By default, all images are used.
        img_suffix: The suffix of image files; by default, that of any common image format.
        seg_map_suffix: The suffix of label maps, which replaces that of the image.
        metainfo: `classes`, and optionally `palette` with a color for each class. Classes of a subclass's `METAINFO`
            that are omitted here are ignored.
        data_root: The root folder of relative paths.
        data_prefix: A dict with the folders `img_path` and, if there are label maps, `seg_map_path`.
        ignore_index: The label of ignored pixels.
        reduce_zero_label: Whether to ignore label 0 and reduce all other labels by one.
        settings: Arguments for `BaseDataset`: `pipeline`, `indices`, `test_mode`, `on_error` ...

    Raises:
        DataError: A folder does not exist, or an image has no label map.
        ArgumentError: A class is missing from a subclass's `METAINFO`.
    """

    def __init__(
        self,
        ann_file: str = "",
        img_suffix: str | None = None,
        seg_map_suffix: str = ".png",
        metainfo: Mapping[str, Any] | None = None,
        data_root: str | None = "",
        data_prefix: Mapping[str, str | None] | None = None,
        *,
        ignore_index: int = 255,
        reduce_zero_label: bool = False,
        **settings: Any,
    ) -> None:
        self.img_suffix, self.seg_map_suffix = img_suffix, seg_map_suffix
        self.ignore_index, self.reduce_zero_label = ignore_index, reduce_zero_label
        prefixes = {"img_path": "", "seg_map_path": None} if data_prefix is None else dict(data_prefix)
        self._has_truth = prefixes.get("seg_map_path") is not None
        self.label_map: dict[int, int] | None = None  # from the labels of `METAINFO` to those of the selected classes
        known, wanted = self.METAINFO.get("classes"), (metainfo or {}).get("classes")
        if known is not None and wanted is not None and not isinstance(wanted, str) and list(wanted) != list(known):
            missing = next((name for name in wanted if name not in known), None)
            if missing is not None:
                message, near = f"the dataset has no class '{missing}'", nearest(str(missing), known)
                raise ArgumentError(message, key="metainfo.classes", suggestion=near)
            places = {name: place for place, name in enumerate(wanted)}
            self.label_map = {label: places.get(name, ignore_index) for label, name in enumerate(known)}
        super().__init__(ann_file, metainfo, data_root, prefixes, **settings)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns a record for each image, with `img_path` and, if there are label maps, `seg_map_path`."""
        folder = self.data_prefix["img_path"]
        suffixes = _SUFFIXES if self.img_suffix is None else (self.img_suffix,)
        if self.ann_file:
            with at_key("ann_file"):
                lines = [line.strip() for line in read_lines(self.ann_file) if line.strip()]
            names = [line if line.lower().endswith(suffixes) else line + suffixes[0] for line in lines]
        else:
            names = list(_walk(folder, suffixes))
        if not names:
            notes = [f"Images are files that end in {', '.join(suffixes)}"]
            raise DataError(f"there are no images in '{folder}'", key="data_prefix.img_path", notes=notes)
        if not self._has_truth:
            return [{"img_path": join(folder, name)} for name in names]
        stems = [os.path.splitext(name)[0] for name in names]
        if self.img_suffix is not None:
            stems = [name.removesuffix(self.img_suffix) for name in names]
        labels, truth = [stem + self.seg_map_suffix for stem in stems], self.data_prefix["seg_map_path"]
        there = set(_walk(truth, (self.seg_map_suffix,)))
        if missing := [label for label in labels if label not in there]:
            # Names that differ only in digits belong to other images, so they are not suggested.
            words = _DIGITS.sub("", missing[0])
            known = there if len(there) < _MOST_TO_COMPARE else ()
            similar = [each for each in known if _DIGITS.sub("", each) != words]
            raise DataError(
                f"{len(missing)} of {len(labels)} images have no label map in '{truth}'",
                key="data_prefix.seg_map_path",
                found=missing[0],
                suggestion=nearest(missing[0], similar),
            )
        return [
            {"img_path": join(folder, name), "seg_map_path": join(truth, label)}
            for name, label in zip(names, labels, strict=True)
        ]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns a copy of one record, with the settings for loading its label map."""
        record = super().get_data_info(idx)
        record["ignore_index"], record["reduce_zero_label"] = self.ignore_index, self.reduce_zero_label
        if "classes" in self._metainfo:
            record["num_classes"] = len(self._metainfo["classes"])
        if self.label_map is not None:
            record["label_map"] = self.label_map
        return record

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the classes in the label map of a sample."""
        labels = LoadAnnotations(with_seg=True).transform(self.get_data_info(idx))["gt_seg_map"]
        return [int(each) for each in np.unique(labels) if each != self.ignore_index]

    def warn_about_labels(self) -> None:
        """Warns if the inspected label maps contain at most one class besides ignored pixels, like 0/255 masks."""
        classes = list(self._metainfo.get("classes") or ())
        if not self._has_truth or len(classes) < 2 or self.label_map is not None:
            return
        found, count = set[int](), 0
        for idx in range(0, len(self), -(-len(self) // _INSPECTED)):
            with suppress(FootplateError, OSError):  # training reports or skips the sample
                labels = LoadAnnotations(with_seg=True).transform(self.get_data_info(idx))["gt_seg_map"]
                found.update(np.unique(labels).tolist())
                count += 1
        present = found - {self.ignore_index}
        if self.ignore_index not in found or len(present) > 1 or not present < set(range(len(classes))):
            return
        contained = [f"class {label} ('{classes[label]}')" for label in present] + [
            f"ignored pixels ({self.ignore_index})"
        ]
        _logger.warning(
            "Found only %s in the %s inspected in '%s'. Missing classes: %s. "
            "Label maps must contain class indices from 0 to %d.",
            " and ".join(contained),
            pluralize(count, "label map"),
            self.data_prefix["seg_map_path"],
            list_names((name for label, name in enumerate(classes) if label not in present), _MOST_NAMES),
            len(classes) - 1,
        )


def _walk(folder: str, suffixes: tuple[str, ...], below: str = "") -> Iterator[str]:
    """Yields the relative paths of all files in a folder and its subfolders."""
    here = join(folder, below) if below else folder
    try:
        names = list_dir(here)
    except FileNotFoundError as error:
        raise DataError(
            f"the folder '{here}' does not exist", key="data_prefix", notes=missing_path_notes(here)
        ) from error
    except NotADirectoryError:
        return
    for name in names:
        path = f"{below}/{name}" if below else name
        if name.startswith("."):
            continue
        if name.lower().endswith(suffixes):
            yield path
        elif "." not in name or os.path.isdir(join(folder, path)):
            yield from _walk(folder, suffixes, path)
