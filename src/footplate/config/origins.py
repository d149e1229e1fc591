"""Records where a key got its value, and which values it replaced."""

import os
from types import FrameType
from typing import NamedTuple

from footplate.errors import Origin

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_COMMANDS = os.path.join(_PACKAGE, "cli", "")
_RECIPES = os.path.join(_PACKAGE, "tasks", "recipes", "configs", "")
# Bounds the history of a key that a loop sets many times.
_LONGEST_CHAIN = 64


class Replaced(NamedTuple):
    """A value that was replaced, with its origin if known."""

    value: object
    origin: Origin | None


class Place(Origin):
    """A file and a line; files below the current folder are shown with their relative path."""

    def __str__(self) -> str:
        return f"{shown_path(self.file)}:{self.line}" if self.line else self.file


class KeyOrigin(Place):
    """Where a key was last set, and the value it replaced.

    Args:
        file: The file, or a source such as `--set`.
        line: The line, counted from 1; 0 if there are no lines.
        replaced: The previous value of the key.
    """

    replaced: Replaced | None
    depth: int
    # Whether other lines of the config read the key as a variable.
    read = False
    # Whether they read this value of the key.
    read_here = False

    def __new__(cls, file: str, line: int, replaced: Replaced | None = None) -> "KeyOrigin":
        """Creates an origin; as a tuple, it is compared and hashed by file and line."""
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
    """Returns all values of a key, from the first base to `value`."""
    links = [Replaced(value, origin)]
    while isinstance(origin, KeyOrigin) and origin.replaced is not None:
        links.append(origin.replaced)
        origin = origin.replaced.origin
    return links[::-1]


def place_of(frame: FrameType) -> tuple[str, int]:
    """Returns the file and line of a frame, or a description if the frame is in footplate's own code.

    Users cannot fix lines of footplate. Code of its commands counts as the command line.
    """
    file = frame.f_code.co_filename
    if file.startswith(_COMMANDS):
        return "the command line", 0
    if file.startswith(_PACKAGE) and not file.startswith(_RECIPES):
        return "footplate itself", 0
    return file, frame.f_lineno


def shown_path(file: str) -> str:
    """Returns the path to show for `file`: relative if below the current folder, `footplate::name` for a recipe."""
    if not os.path.isabs(file):
        return file
    try:
        relative = os.path.relpath(file)
    except (ValueError, OSError):
        return file
    if relative.startswith(os.pardir):
        return f"footplate::{file[len(_RECIPES) :]}" if file.startswith(_RECIPES) else file
    return relative
