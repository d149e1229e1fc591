"""Records the origin of each key and the values that it replaced."""

import copy
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from footplate.error_context import origin_of
from footplate.errors import Origin

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "")
_COMMANDS = os.path.join(_PACKAGE, "cli", "")
_RECIPES = os.path.join(_PACKAGE, "tasks", "recipes", "configs", "")


class Replaced(NamedTuple):
    """A value that was replaced, with its origin if known."""

    value: Any
    origin: Origin | None


class KeyOrigin(Origin):
    """The place where a key was last set, and the value that it replaced.

    Args:
        file: The file, or a source such as `--set`.
        line: The line, counted from 1, or 0 if the source has no lines.
        replaced: The previous value of the key.
    """

    replaced: Replaced | None
    is_read = False  # whether other lines of the config read the key as a variable
    is_read_here = False  # whether they read the value that was set at this place

    def __new__(cls, file: str, line: int, replaced: Replaced | None = None) -> "KeyOrigin":
        """Creates an origin. Origins are compared and hashed by their file and line."""
        self = super().__new__(cls, file, line)
        self.replaced = replaced
        earlier = replaced.origin if replaced else None
        if isinstance(earlier, KeyOrigin):
            self.is_read = earlier.is_read
            if earlier == (file, line):  # a loop sets the key again
                self.replaced = earlier.replaced
        return self

    @property
    def is_override(self) -> bool:
        """Whether an option such as `--set` set the value, rather than a config file."""
        return not self.line and not os.path.isabs(self.file)


def is_variable(config: object, key: object) -> bool:
    """Checks whether other lines of the config read a top-level key as a variable."""
    origin = origin_of(config, key)
    return isinstance(origin, KeyOrigin) and origin.is_read


def value_history(value: object, origin: Origin | None) -> list[Replaced]:
    """Returns all values of a key in order, from the value in the first base to `value`."""
    links = [Replaced(value, origin)]
    while isinstance(origin, KeyOrigin) and origin.replaced is not None:
        links.append(origin.replaced)
        origin = origin.replaced.origin
    return links[::-1]


def calling_line() -> Origin:
    """Returns the line outside of this package that is being executed.

    For a line in footplate's own code, which users cannot change, returns a description instead of a file, and line 0.
    """
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    file = frame.f_code.co_filename
    if file.startswith(_COMMANDS):
        return Origin("the command line", 0)
    if file.startswith(_PACKAGE) and not file.startswith(_RECIPES):
        return Origin("footplate itself", 0)
    return Origin(file, frame.f_lineno)


class TracedDict(dict[Any, Any]):
    """A dict that records the file and line of each statement that sets a key.

    `dict(...)` and `{...}` create it while a config runs. `_origins` maps each key to its place, and None to the place
    of the dict itself.
    """

    _origins: dict[object, Origin]

    def __new__(cls, /, *args: object, **kwargs: object) -> "TracedDict":
        """Creates an empty dict without origins."""
        self = super().__new__(cls)
        self._origins = {}
        return self

    def __setitem__(self, key: Any, value: object) -> None:
        self._write(key, value, calling_line())

    def __or__(self, other: Mapping[Any, Any]) -> "TracedDict":
        result = self.copy()
        result.update(other)
        return result

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def __copy__(self) -> "TracedDict":
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "TracedDict":
        result = type(self)()
        memo[id(self)] = result
        for key, value in self.items():
            result._put(copy.deepcopy(key, memo), copy.deepcopy(value, memo), None)
        result._origins = dict(self._origins)
        return result

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key. Sets a missing key to `default` first."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        """Sets several keys, with the origins that they have in the mapping that is passed."""
        origins, place = getattr(args[0], "_origins", {}) if args else {}, calling_line()
        for key, value in dict(*args, **kwargs).items():
            self._write(key, value, origins.get(key) or place)

    def copy(self) -> "TracedDict":
        """Returns a shallow copy with the same origins."""
        result = type(self)()
        dict.update(result, self)
        result._origins = dict(self._origins)
        return result

    def _put(self, key: Any, value: object, origin: Origin | None) -> None:
        """Sets a key and its origin, without a history."""
        dict.__setitem__(self, key, value)
        if origin is not None:
            self._origins[key] = origin

    def _write(self, key: Any, value: object, place: Origin | None) -> None:
        """Sets a key. The previous value becomes part of its history."""
        if place is not None and key in self:
            place = KeyOrigin(*place, Replaced(dict.__getitem__(self, key), self._origins.get(key)))
        self._put(key, value, place)
