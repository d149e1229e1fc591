"""Finds the image files in a folder, and reports the files that it leaves out."""

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath

from footplate.data.annotations import explain_read_errors
from footplate.data.findings import Findings
from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.storage import join, list_dir

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Files that often lie next to images; any other suffix may be that of an image.
_DOCUMENTS = (".txt", ".json", ".xml", ".csv", ".md", ".yaml", ".yml", ".html", ".db", ".ini", ".cache")


def find_images(folder: str, suffixes: tuple[str, ...], subfolders: Collection[str] | None = None) -> list[str]:
    """Returns the paths, relative to a folder, of the images in it and in its subfolders.

    Warns about links that contain themselves and, if `suffixes` are the default, about files with other suffixes.

    Args:
        folder: The folder.
        suffixes: The suffixes of images.
        subfolders: The names of the subfolders to search; by default, the whole folder. Images in the folder itself
            are then left out with a warning.

    Raises:
        DataError: A folder does not exist or cannot be read.
    """
    findings = Findings(folder)

    def walk(name: str, parents: tuple[str, ...]) -> Iterator[str]:
        """Yields the images in a subfolder. `parents` are the folders that contain it."""
        place = join(folder, name) if name else folder
        here = (*parents, place)
        for entry in list_folder(place):
            path = f"{name}/{entry}" if name else entry
            if has_suffix(entry, suffixes):
                if name or subfolders is None:
                    yield path
                else:
                    findings.warn("images that are in no class folder are left out", path)
            elif is_folder(join(folder, path)):
                if contains_one_of(here, join(folder, path)):
                    findings.warn("links to a folder that contains them are left out", path)
                elif name or subfolders is None or entry in subfolders:
                    yield from walk(path, here)
            elif suffixes == IMAGE_SUFFIXES and not has_suffix(entry, _DOCUMENTS):
                end = PurePosixPath(entry).suffix
                problem = f"files that end in '{end}' are left out" if end else "files without a suffix are left out"
                findings.warn(problem, path, advice="Convert them if they are images.")

    paths = list(walk("", ()))
    findings.report()
    return paths


def contains_one_of(folders: Iterable[str], folder: str) -> bool:
    """Checks whether a folder, after links are resolved, is or contains one of the `folders`."""
    real, *others = (os.path.join(os.path.realpath(path), "") for path in (folder, *folders))
    return any(other.startswith(real) for other in others)


def check_images(images: Collection[object], ann_file: str, folder: str, suffixes: Iterable[str]) -> None:
    """Raises a DataError if `images` is empty. The message names `ann_file` if it is set, otherwise `folder`."""
    if not images:
        if ann_file:
            raise DataError(f"the file '{ann_file}' lists no images", key="ann_file")
        notes = [f"Image files must end in {', '.join(suffixes)}."]
        raise DataError(f"there are no images in '{folder}'", key="data_prefix", notes=notes)


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Checks whether a name ends with one of the suffixes. A lowercase suffix also matches its uppercase form."""
    return name.endswith(suffixes) or name.lower().endswith(suffixes)


def list_folder(folder: str) -> list[str]:
    """Returns the names in a folder, sorted and without hidden files and `__MACOSX`.

    Raises a DataError if the folder cannot be read.
    """
    with at_key("data_prefix"), explain_read_errors("folder", folder):
        return [name for name in list_dir(folder) if not name.startswith(".") and name != "__MACOSX"]


def is_folder(path: str) -> bool:
    """Checks whether a path is a folder that can be listed.

    Returns False for a file, even if the storage lists it as a folder that contains only itself.
    """
    try:
        return list_dir(path) != [path.rpartition("/")[2]]
    except OSError:
        return False
