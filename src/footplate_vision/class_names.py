"""Reads the class names that labelling tools write next to labels whose classes are indices."""

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from footplate import storage
from footplate.data.annotations import load_data_file, read_lines
from footplate.errors import DataError, FootplateError
from footplate.messages import list_names

NAME_FILES = ("data.yaml", "data.yml", "classes.txt", "labels.txt", "obj.names", "labelmap.txt")  # the last two by CVAT
_PARENTS = 3  # folders above the labels that may contain such a file
_logger = logging.getLogger("footplate.vision")


def read_names(path: Path) -> list[str]:
    """Returns the names in a file in the order of their indices, or [] if a YAML file has none.

    Raises:
        DataError: The names of a YAML file are not in order.
    """
    if path.suffix in (".txt", ".names"):
        lines = [line.strip() for line in read_lines(str(path)) if line.strip()]
        if path.name != "labelmap.txt":
            return lines
        return [line.partition(":")[0].strip() for line in lines if line[0] != "#"]
    content = load_data_file(str(path))
    names = (content.get("names") if isinstance(content, dict) else None) or []
    if isinstance(names, dict):
        by_index = {str(key): name for key, name in names.items()}
        indices = list(map(str, range(len(names))))
        names = [by_index[index] for index in indices] if by_index.keys() == set(indices) else names
    if not isinstance(names, list):
        raise DataError(f"'names' in '{path}' must be a list, or a dict with the keys 0, 1, 2, ...", found=names)
    return [str(name) for name in names]


def warn_about_order(classes: Sequence[str], folder: str) -> None:
    """Warns if a file next to the labels lists classes at other indices, as after an edit in the labelling tool.

    Only names that both have count, because a config may have names of its own.

    Args:
        classes: The names in the config, in the order of their indices.
        folder: The folder of the labels.
    """
    if not storage.is_local(folder):
        return
    parents = islice([Path(folder), *Path(folder).parents], _PARENTS)
    path = next((file for parent in parents for name in NAME_FILES if (file := parent / name).is_file()), None)
    try:
        names = read_names(path) if path is not None else []
    except FootplateError:  # not a file of names
        return
    moved = [name for index, name in enumerate(classes) if name in names and names.index(name) != index]
    if moved:
        _logger.warning(
            "Classes of the config have other indices in '%s': %s. Labels are indices, so use one order.",
            path,
            list_names([f"{name} is {list(classes).index(name)}, there {names.index(name)}" for name in moved], 3),
        )
