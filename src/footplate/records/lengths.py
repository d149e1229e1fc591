"""Determines the length of data loaders."""

from typing import Any


def length_of(loader: Any) -> int | None:
    """Returns the length of a loader or dataset; None if it is unknown, as for streams."""
    try:
        return len(loader)
    except TypeError:  # a torch DataLoader always has `__len__`, which raises for streams
        return None
