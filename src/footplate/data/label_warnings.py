"""Warnings about classes and labels that do not match a dataset's samples."""

import logging
from collections.abc import Collection, Sequence
from typing import Any

from footplate.messages import list_names, pluralize

_logger = logging.getLogger("footplate.data")


def warn_about_missing_classes(classes: Sequence[str] | None, labels: Collection[Any], where: str) -> None:
    """Warns about classes without samples.

    Args:
        classes: The names of the classes.
        labels: The labels that occur in the data.
        where: The file or folder of the data.
    """
    if missing := [name for label, name in enumerate(classes or ()) if label not in labels]:
        _logger.warning("These classes have no samples in '%s': %s.", where, list_names(missing, 20))


def warn_about_ignored_pixels(labels: Collection[int], count: int, where: Any, num_classes: int) -> None:
    """Warns that label maps contain only ignored pixels and at most one class.

    Args:
        labels: The classes that occur; at most one.
        count: The number of inspected label maps.
        where: The folder of the label maps.
        num_classes: The number of classes.
    """
    _logger.warning(
        "Found only ignored pixels%s in %s from '%s'. Label maps must contain class indices from 0 to %d.",
        "".join(f" and class {label}" for label in labels),
        pluralize(count, "label map"),
        where,
        num_classes - 1,
    )
