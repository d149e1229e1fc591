"""An image dataset with one folder per class, or with a text file that lists the images."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from footplate.data import BaseDataset
from footplate.data.annotations import read_lines
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.registry import DATASETS
from footplate.storage import join, list_dir, missing_path_notes

_logger = logging.getLogger("footplate.tasks")
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@DATASETS.register_module()
class CustomDataset(BaseDataset):
    """A dataset of images in one folder per class, nested at any depth, or of images listed in a text file.

    Without `ann_file`, the folders in `data_prefix` are the classes, sorted by name. With `ann_file`, each line
    is a path under `data_prefix` and a class index: `shoes/01.png 4`. Samples have `img_path` and `gt_label`.

    Args:
        data_root: The root folder of relative paths.
        data_prefix: The folder of the images under `data_root`, or a dict with this folder as `img_path`.
        ann_file: The text file under `data_root`; empty if the folders define the classes.
        with_label: Whether images have labels. If False, all images in the folder and its subfolders are used, and
            samples have only `img_path`.
        extensions: The file extensions of images, case-insensitive.
        metainfo: A dict whose entry `classes` is a list of names or the path of a text file with names. If every folder
            is named after a class, the label is the index of that class. If every class is named after a folder, other
            folders are ignored with a warning. Otherwise, classes are assigned to folders in order.
        classes: An alternative to `metainfo["classes"]`.
        settings: Arguments for `BaseDataset`: `pipeline`, `indices`, `test_mode`, `lazy_init`, `on_error` ...

    Raises:
        DataError: A folder is missing, there are no images, a line is malformed, a label is out of range, or classes
            and folders do not match.
    """

    def __init__(
        self,
        data_root: str | None = "",
        data_prefix: str | Mapping[str, str | None] = "",
        ann_file: str | None = "",
        with_label: bool = True,
        extensions: Sequence[str] = _EXTENSIONS,
        metainfo: Mapping[str, Any] | None = None,
        *,
        classes: Sequence[str] | str | None = None,
        **settings: Any,
    ) -> None:
        self.with_label = with_label
        self.extensions = tuple(each.lower() for each in extensions)
        if not self.extensions:
            raise ArgumentError("extensions must list at least one file extension", key="extensions", found=extensions)
        super().__init__(
            ann_file=ann_file,
            metainfo={**(metainfo or {}), **({} if classes is None else {"classes": classes})},
            data_root=data_root,
            data_prefix={"img_path": data_prefix} if isinstance(data_prefix, str) else data_prefix,
            **settings,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns a record for each image."""
        folder = self.data_prefix.get("img_path") or "."
        found: list[dict[str, Any]]
        if self.ann_file:
            with at_key("ann_file"):
                lines = read_lines(self.ann_file)
            found = [self._record(folder, line, number) for number, line in enumerate(lines, 1) if line.strip()]
            if not found:
                raise DataError(f"the list '{self.ann_file}' is empty", key="ann_file")
            return found
        if not self.with_label:
            found = [{"img_path": path} for path in self._images(folder)]
        else:
            found = [
                {"img_path": path, "gt_label": label}
                for name, label in self._labels(folder).items()
                for path in self._images(join(folder, name))
            ]
        if not found:
            raise DataError(
                f"there are no images in '{folder}'",
                key="data_prefix",
                notes=[f"Images are files that end in {', '.join(self.extensions)}"],
            )
        return found

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns a list with the class of a sample."""
        return [int(self.get_data_info(idx)["gt_label"])]

    def _record(self, folder: str, line: str, number: int) -> dict[str, Any]:
        if not self.with_label:
            return {"img_path": join(folder, line.strip())}
        path, _, label = line.strip().rpartition(" ")
        if not path or not label.isdecimal():
            raise DataError(
                f"line {number} of '{self.ann_file}' is not an image path followed by a class index", found=line
            )
        classes = self._metainfo.get("classes")
        if classes and int(label) >= len(classes):
            reason = f"the class in line {number} of '{self.ann_file}' must be less than {len(classes)}"
            raise DataError(reason, found=line)
        return {"img_path": join(folder, path.strip()), "gt_label": int(label)}

    def _labels(self, folder: str) -> dict[str, int]:
        """Maps folder names to labels, and sets the classes in the metainfo."""
        folders = [name for name in self._names(folder) if not self._is_image(name) and self._is_folder(folder, name)]
        if not folders:
            raise DataError(f"there are no class folders in '{folder}'", key="data_prefix")
        classes = list(self._metainfo.get("classes") or folders)
        self._metainfo["classes"] = tuple(classes)
        if set(folders) <= set(classes) or set(classes) <= set(folders):
            if left_out := [name for name in folders if name not in classes]:
                _logger.warning("Ignoring folders in '%s' that are not classes: %s", folder, ", ".join(left_out))
            return {name: classes.index(name) for name in folders if name in classes}
        if len(classes) != len(folders):
            raise DataError(
                f"'{folder}' contains {len(folders)} folders, but there are {len(classes)} classes",
                key="metainfo.classes",
                found=folders,
            )
        for name, given in zip(folders, classes, strict=True):
            if name != given and (name in classes or given in folders):
                raise DataError(
                    f"the classes do not match the folders of '{folder}': folder '{name}' would be class '{given}'",
                    key="metainfo.classes",
                    found=folders,
                    notes=["Either name all classes after their folders, or none of them."],
                )
        return {name: label for label, name in enumerate(folders)}

    def _images(self, folder: str) -> Iterator[str]:
        """Yields all images in a folder and its subfolders, in the order of the folder listings."""
        count = 0
        for name in self._names(folder):
            if self._is_image(name):
                count += 1
                yield join(folder, name)
            elif self._is_folder(folder, name):
                count += 1
                yield from self._images(join(folder, name))
        if not count:
            _logger.warning("There are no images in the folder '%s'.", folder)

    def _names(self, folder: str) -> list[str]:
        try:
            return [name for name in list_dir(folder) if not name.startswith(".")]
        except FileNotFoundError as error:
            missing = f"the folder '{folder}' does not exist"
            raise DataError(missing, key="data_prefix", notes=missing_path_notes(folder)) from error
        except OSError as error:
            raise DataError(f"the folder '{folder}' cannot be read: {error}", key="data_prefix") from error

    def _is_image(self, name: str) -> bool:
        return name.lower().endswith(self.extensions)

    @staticmethod
    def _is_folder(folder: str, name: str) -> bool:
        try:
            return list_dir(join(folder, name)) != [name]  # some stores list a file as a folder that contains itself
        except OSError:
            return False
