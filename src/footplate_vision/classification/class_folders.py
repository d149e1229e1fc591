"""Matches the names of class folders with the names of classes."""

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from footplate.errors import DataError
from footplate.messages import list_names, pluralize

_logger = logging.getLogger("footplate.vision")
_MAX_NAMES = 20


def match_folders(folders: Sequence[str], classes: Sequence[str], where: str) -> dict[str, int]:
    """Maps the names of class folders to indices of classes.

    Equal names match, and then names that differ in case, spaces, "_" or "-". If neither all folders nor all classes
    have a match, folders and classes are matched by order, with a warning.

    Args:
        folders: The names of the folders, sorted.
        classes: The names of the classes.
        where: The folder that contains the class folders, for messages.

    Raises:
        DataError: Only some of the names match, and these have another order; or the numbers of names differ.
    """
    labels: dict[str, int] = {}
    keys_of: tuple[Callable[[object], str], ...] = (str, _normalize)
    for key_of in keys_of:
        by_key: dict[str, tuple[list[str], list[int]]] = defaultdict(lambda: ([], []))
        for name in [name for name in folders if name not in labels]:
            by_key[key_of(name)][0].append(name)
        for label in set(range(len(classes))).difference(labels.values()):
            by_key[key_of(classes[label])][1].append(label)
        labels |= {names[0]: found[0] for names, found in by_key.values() if len(names) == len(found) == 1}
    if len(labels) in (len(folders), len(classes)):
        if ignored := [name for name in folders if name not in labels]:
            _logger.warning("Ignoring folders in '%s' that are not classes: %s", where, ", ".join(ignored))
        return labels
    keys, class_keys = (list(map(_normalize, names)) for names in (folders, classes))
    shared = set(keys) & set(class_keys)
    moved = [a for a, b in zip(keys, class_keys, strict=False) if a != b and not shared.isdisjoint((a, b))]
    if len(classes) != len(folders) or moved:
        numbers = f"{pluralize(len(classes), 'name')}, {pluralize(len(folders), 'folder')}"
        raise DataError(
            f"the class names do not match the folders in '{where}': {numbers}",
            key="metainfo.classes",
            found=list(classes),
            notes=[
                f"The folders are {list_names(folders, _MAX_NAMES)}.",
                "Name all classes after their folders. For a class without images, create an empty folder.",
            ],
        )
    pairs = [f"'{name}' is '{class_name}'" for name, class_name in zip(folders, classes, strict=True)]
    _logger.warning(
        "The names of folders and classes differ, so the folders in '%s' are classes in their order: %s.",
        where,
        list_names(pairs, _MAX_NAMES),
    )
    warn_about_order(folders, classes, where)
    return {name: label for label, name in enumerate(folders)}


def warn_about_order(folders: Sequence[str], classes: Sequence[str], where: str) -> None:
    """Warns if the order of the names of folders, which is that of text, differs from the order of their numbers."""
    numeric = sorted(folders, key=_numbers_in)
    pairs = [
        f"{class_name} is '{name}' instead of '{other}'"
        for class_name, name, other in zip(classes, folders, numeric, strict=True)
        if name != other
    ]
    if pairs:
        _logger.warning(
            "The folders in '%s' are sorted as text, not as numbers: %s. To choose another order, list the names of "
            "the folders in `classes`.",
            where,
            list_names(pairs, _MAX_NAMES),
        )


def _numbers_in(name: str) -> Any:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _normalize(name: object) -> str:
    return re.sub(r"[\s_-]", "", unicodedata.normalize("NFC", str(name)).casefold())
