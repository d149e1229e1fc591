"""The notes that a translation makes about first-generation keys."""

import enum
from typing import NamedTuple

from footplate.errors import Origin


class Kind(enum.Enum):
    """How much attention a note needs from the user."""

    BECAME = "became"
    """The key was translated without loss."""
    WARNING = "warning"
    """A setting cannot be kept, on this machine or in general."""
    PERSON = "person"
    """Needs a manual check, because the result depends on code or data that the translation cannot see."""


class Note(NamedTuple):
    """One line of the migration report.

    Attributes:
        kind: How much attention the note needs.
        key: The first-generation key, such as `evaluation.start`.
        text: What the key was translated to, or what to check and why.
        origin: The file and line of the key.
        near: The known key that an unknown key resembles, or None.
    """

    kind: Kind
    key: str
    text: str
    origin: Origin | None = None
    near: str | None = None

    def __str__(self) -> str:
        place = f"{self.origin}: " if self.origin else ""
        return f"{place}{self.key}: {self.text}"
