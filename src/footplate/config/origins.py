"""Records the origin of each key and the values that it replaced."""

import copy
import os
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple

from footplate.error_context import origin_of
from footplate.errors import Origin

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_COMMANDS = os.path.join(_PACKAGE, "cli", "")
_RECIPES = os.path.join(_PACKAGE, "tasks", "recipes", "configs", "")


class Replaced(NamedTuple):
    """A value that was replaced, with its origin if known."""

    value: Any
    origin: Origin | None


class Place(Origin):
    """A file and a line. The path of a file in the current folder is shown as a relative path."""

    def __str__(self) -> str:
        return f"{shown_path(self.file)}:{self.line}" if self.line else shown_path(self.file)

    @property
    def is_override(self) -> bool:
        """Whether an option such as `--set` set the value, rather than a config file."""
        return not self.line and not os.path.isabs(self.file)


class KeyOrigin(Place):
    """The place where a key was last set, and the value that it replaced.

    Args:
        file: The file, or a source such as `--set`.
        line: The line, counted from 1, or 0 if the source has no lines.
        replaced: The previous value of the key.
    """

    replaced: Replaced | None
    read = False  # whether other lines of the config read the key as a variable
    read_here = False  # whether they read the value that was set at this place

    def __new__(cls, file: str, line: int, replaced: Replaced | None = None) -> "KeyOrigin":
        """Creates an origin. Origins are compared and hashed by their file and line."""
        self = super().__new__(cls, file, line)
        self.replaced = replaced
        earlier = replaced.origin if replaced else None
        if isinstance(earlier, KeyOrigin):
            self.read = earlier.read
            if earlier == (file, line):  # a loop sets the key again
                self.replaced = earlier.replaced
        return self


def is_variable(config: object, key: object) -> bool:
    """Checks whether other lines of the config read a top-level key as a variable."""
    origin = origin_of(config, key)
    return isinstance(origin, KeyOrigin) and origin.read


def value_history(value: object, origin: Origin | None) -> list[Replaced]:
    """Returns all values of a key in order, from the value in the first base to `value`."""
    links = [Replaced(value, origin)]
    while isinstance(origin, KeyOrigin) and origin.replaced is not None:
        links.append(origin.replaced)
        origin = origin.replaced.origin
    return links[::-1]


def place_of(frame: FrameType) -> tuple[str, int]:
    """Returns the file and line of a frame.

    For a frame in footplate's own code, which users cannot change, returns a description instead of a file, and line 0.
    """
    file = frame.f_code.co_filename
    if file.startswith(_COMMANDS):
        return "the command line", 0
    if file.startswith(_PACKAGE) and not file.startswith(_RECIPES):
        return "footplate itself", 0
    return file, frame.f_lineno


def shown_path(file: str) -> str:
    """Returns the path to show for `file`: a relative path for a file in the current folder, or `footplate::name` for a
    recipe."""
    if not os.path.isabs(file):
        return file
    try:
        relative = os.path.relpath(file)
    except (ValueError, OSError):
        return file
    if relative.startswith(os.pardir):
        return f"footplate::{file[len(_RECIPES) :]}" if file.startswith(_RECIPES) else file
    return relative


class TracedDict(dict[Any, Any]):
    """A dict that records the file and line of each statement that sets a key.

    `dict(...)` and `{...}` create it while a config runs. `_origins` maps each key to its place, and None to the place
    of the dict itself.
    """

    __slots__ = ("_origins",)

    _origins: dict[object, Origin]

    def __new__(cls, /, *args: object, **kwargs: object) -> "TracedDict":
        """Creates an empty dict without origins."""
        self = super().__new__(cls)
        object.__setattr__(self, "_origins", {})
        return self

    def __setitem__(self, key: Any, value: object) -> None:
        self._write(key, value, sys._getframe(1))

    def __or__(self, other: Mapping[Any, Any]) -> "TracedDict":
        result = self.copy()
        result._write_all(other, sys._getframe(1))
        return result

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self._write_all(dict(other), sys._getframe(1))
        return self

    def __copy__(self) -> "TracedDict":
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "TracedDict":
        result = type(self)()
        memo[id(self)] = result
        for key, value in self.items():
            dict.__setitem__(result, copy.deepcopy(key, memo), copy.deepcopy(value, memo))
        result._copy_origins(self)
        return result

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        for name, value in state[1].items():
            object.__setattr__(self, name, value)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key. Sets a missing key to `default` first."""
        if key not in self:
            self._write(key, default, sys._getframe(1))
        return self[key]

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        """Sets several keys."""
        self._write_all(dict(*args, **kwargs), sys._getframe(1), args[0] if args else None)

    def copy(self) -> "TracedDict":
        """Returns a shallow copy with the same origins."""
        result = type(self)()
        dict.update(result, self)
        result._copy_origins(self)
        return result

    @classmethod
    def _written_at(cls, place: Origin) -> "TracedDict":
        """Returns an empty dict whose origin is `place`."""
        result = cls()
        result._origins[None] = place
        return result

    def _put(self, key: Any, value: object, place: Origin) -> None:
        """Sets a key with the origin `place` and without a history."""
        dict.__setitem__(self, key, value)
        self._origins[key] = place

    def _write(self, key: Any, value: object, frame: FrameType, origin: Origin | None = None) -> None:
        """Sets a key. Its origin defaults to the current statement of `frame`."""
        replaced = Replaced(dict.__getitem__(self, key), self._origins.get(key)) if key in self else None
        super().__setitem__(key, value)
        file, line = origin or place_of(frame)
        self._origins[key] = KeyOrigin(file, line, replaced)

    def _write_all(self, items: Mapping[Any, Any], frame: FrameType, source: object = None) -> None:
        """Sets several keys with the origins recorded in `source`, which defaults to `items`."""
        origins = getattr(items if source is None else source, "_origins", {})
        for key, value in items.items():
            self._write(key, value, frame, origins.get(key))

    def _copy_origins(self, other: "TracedDict") -> None:
        object.__setattr__(self, "_origins", dict(other._origins))
