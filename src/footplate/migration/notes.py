"""Notes of a translation on the keys that it read."""

import enum
from typing import NamedTuple

from footplate.errors import Origin


class Kind(enum.Enum):
    """How much attention a note needs."""

    BECAME = "became"
    """The meaning is kept under another key."""
    WARNING = "warning"
    """A meaning that cannot be kept, here or at all."""
    PERSON = "person"
    """A person has to check: what is right depends on code or data that a translation cannot see."""


class Note(NamedTuple):
    """One line of the report.

    Attributes:
        kind: How much it asks of its reader.
        key: The first-generation key, `evaluation.start`.
        text: What it became, or what is to be looked at and why.
        origin: Where the key was written.
        near: The known key that an unknown one resembles, None for a known key or one that resembles none.
    """

    kind: Kind
    key: str
    text: str
    origin: Origin | None = None
    near: str | None = None

    def __str__(self) -> str:
        place = f"{self.origin}: " if self.origin else ""
        return f"{place}{self.key}: {self.text}"
