"""Pictures and label maps in folders."""

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from footplate.data import BaseDataset
from footplate.data.annotations import read_lines
from footplate.data.transforms.annotating import LoadAnnotations
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.messages import nearest
from footplate.registry import DATASETS
from footplate.storage import join, list_dir, missing_path_notes

_MOST_TO_COMPARE = 10_000
_DIGITS = re.compile(r"\d+")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@DATASETS.register_module(["BaseSegDataset", "SegFolderDataset"])
class BaseSegDataset(BaseDataset):
    """A folder of pictures and a folder of label maps that are called alike.

    A label map is a picture of one channel whose values are classes, 255 for pixels that do not count::

        data/street/images/train/a/0001.jpg
        data/street/masks/train/a/0001.png

    Args:
        ann_file: A file with a name a line, with or without suffix, of the pictures to take; by default all.
        img_suffix: The end of pictures' names; by default every kind that Pillow knows well.
        seg_map_suffix: What it becomes in the name of the label map.
        metainfo: `classes`, and if you like `palette`, a colour for each class. Classes of a subclass's `METAINFO`
            that are left out here get the label that does not count.
        data_root: Where relative paths begin.
        data_prefix: The folders: `img_path`, and `seg_map_path` where the truth is known.
        ignore_index: The label that does not count.
        reduce_zero_label: Whether label 0 does not count and all others are one less.
        settings: Arguments of `BaseDataset`: `pipeline`, `indices`, `test_mode`, `on_error` ...

    Raises:
        DataError: A folder is not there, or a picture has no label map.
        ArgumentError: A class is none of a subclass's `METAINFO`.
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
        self.label_map = _label_map(self.METAINFO.get("classes"), (metainfo or {}).get("classes"), ignore_index)
        super().__init__(ann_file, metainfo, data_root, prefixes, **settings)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns a record for each picture, with `img_path` and, where the truth is known, `seg_map_path`."""
        folder = self.data_prefix["img_path"]
        names = self._named() if self.ann_file else list(_walk(folder, self._suffixes))
        if not names:
            looked_for = ", ".join(self._suffixes)
            raise DataError(f"there is no picture in '{folder}'", key="data_prefix.img_path", notes=[looked_for])
        if not self._has_truth:
            return [{"img_path": join(folder, name)} for name in names]
        labels = self._label_names(names)
        truth = self.data_prefix["seg_map_path"]
        return [
            {"img_path": join(folder, name), "seg_map_path": join(truth, label)}
            for name, label in zip(names, labels, strict=True)
        ]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns a copy of one record, with what loading its label map needs to know."""
        record = super().get_data_info(idx)
        record["ignore_index"], record["reduce_zero_label"] = self.ignore_index, self.reduce_zero_label
        if "classes" in self._metainfo:
            record["num_classes"] = len(self._metainfo["classes"])
        if self.label_map is not None:
            record["label_map"] = self.label_map
        return record

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the classes in a sample's label map."""
        labels = LoadAnnotations(with_seg=True).transform(self.get_data_info(idx))["gt_seg_map"]
        return [int(each) for each in np.unique(labels) if each != self.ignore_index]

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return _SUFFIXES if self.img_suffix is None else (self.img_suffix,)

    def _named(self) -> list[str]:
        """The pictures that `ann_file` names; one that has no suffix there gets `img_suffix`."""
        with at_key("ann_file"):
            names = [line.strip() for line in read_lines(self.ann_file) if line.strip()]
        return [name if name.lower().endswith(self._suffixes) else name + self._suffixes[0] for name in names]

    def _label_names(self, names: Sequence[str]) -> list[str]:
        labels = [os.path.splitext(name)[0] + self.seg_map_suffix for name in names]
        if self.img_suffix is not None:
            labels = [name.removesuffix(self.img_suffix) + self.seg_map_suffix for name in names]
        folder = self.data_prefix["seg_map_path"]
        there = set(_walk(folder, (self.seg_map_suffix,)))
        missing = [label for label in labels if label not in there]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(labels)} pictures have no label map in '{folder}'",
                key="data_prefix.seg_map_path",
                found=missing[0],
                suggestion=_near_name(missing[0], there) if len(there) < _MOST_TO_COMPARE else None,
            )
        return labels


def _near_name(name: str, there: Collection[str]) -> str | None:
    """The name that was most likely meant; one with other digits is another picture's."""
    words = _DIGITS.sub("", name)
    return nearest(name, [each for each in there if _DIGITS.sub("", each) != words])


def _walk(folder: str, suffixes: tuple[str, ...], below: str = "") -> Iterator[str]:
    """Yields the files in a folder and those below it, by names relative to it, in order."""
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


def _label_map(known: Sequence[str] | None, wanted: Any, ignore_index: int) -> dict[int, int] | None:
    """From the labels of all known classes to those of the wanted ones; None where they are the same."""
    if known is None or wanted is None or isinstance(wanted, str) or list(wanted) == list(known):
        return None
    for name in wanted:
        if name not in known:
            near = nearest(str(name), known)
            raise ArgumentError(f"the data set has no class '{name}'", key="metainfo.classes", suggestion=near)
    places = {name: place for place, name in enumerate(wanted)}
    return {label: places.get(name, ignore_index) for label, name in enumerate(known)}
