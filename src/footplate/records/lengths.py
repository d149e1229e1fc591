"""How long a pass over a loader is."""

from typing import Any


def length_of(loader: Any) -> int | None:
    """Returns how many batches or samples there are; None where that is not known, as with streams."""
    try:
        return len(loader)
    except TypeError:  # a torch DataLoader always has a length, and raises when it is asked
        return None
