"""Where a key got its value, and which values it replaced."""

import os
from types import FrameType
from typing import NamedTuple

from footplate.errors import Origin

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_COMMANDS = os.path.join(_PACKAGE, "cli", "")
_RECIPES = os.path.join(_PACKAGE, "recipes", "configs", "")
# A loop that sets one key over and over must not keep every value it ever had.
_LONGEST_CHAIN = 64


class Replaced(NamedTuple):
    """A value that a later one took the place of, with its own origin if it is known."""

    value: object
    origin: Origin | None


class Place(Origin):
    """A file and a line; a file below the current folder is shown by its relative path."""

    def __str__(self) -> str:
        return f"{shown_path(self.file)}:{self.line}" if self.line else self.file


class KeyOrigin(Place):
    """Where a key was set last, with what stood there before.

    Args:
        file: The file, or a word such as `--set`.
        line: The line, counted from one; 0 where there are no lines.
        replaced: What the key held before.
    """

    replaced: Replaced | None
    depth: int
    # Whether other lines of the config read the key, as they read a variable.
    read = False
    # Whether they did so where it had this value.
    read_here = False

    def __new__(cls, file: str, line: int, replaced: Replaced | None = None) -> "KeyOrigin":
        """Makes one; an origin is a tuple, so that it is compared and hashed by file and line."""
        self = super().__new__(cls, file, line)
        earlier = replaced.origin if replaced else None
        depth = earlier.depth + 1 if isinstance(earlier, KeyOrigin) else 1
        if isinstance(earlier, KeyOrigin) and (earlier == (file, line) or depth > _LONGEST_CHAIN):
            replaced, depth = earlier.replaced, earlier.depth
        self.replaced = replaced
        self.depth = depth
        if isinstance(earlier, KeyOrigin) and earlier.read:
            self.read = True
        return self


def chain(value: object, origin: Origin | None) -> list[Replaced]:
    """Returns every value a key had, from the first base to `value`."""
    links = [Replaced(value, origin)]
    while isinstance(origin, KeyOrigin) and origin.replaced is not None:
        links.append(origin.replaced)
        origin = origin.replaced.origin
    return links[::-1]


def place_of(frame: FrameType) -> tuple[str, int]:
    """Returns the file and line that a frame is at; one of ours, where a user has nothing to mend, is told so.

    What our commands set stands for a flag, or for its default.
    """
    file = frame.f_code.co_filename
    if file.startswith(_COMMANDS):
        return "the command line", 0
    if file.startswith(_PACKAGE) and not file.startswith(_RECIPES):
        return "footplate itself", 0
    return file, frame.f_lineno


def shown_path(file: str) -> str:
    """Returns `file` relative to the current folder when it lies there, that of a recipe as configs name it, else as
    it is."""
    if not os.path.isabs(file):
        return file
    try:
        relative = os.path.relpath(file)
    except (ValueError, OSError):
        return file
    if relative.startswith(os.pardir):
        return f"footplate::{file[len(_RECIPES) :]}" if file.startswith(_RECIPES) else file
    return relative
