"""`TracedDict`: the dict of a running config, which records where its keys were written."""

import copy
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from footplate.config.origins import KeyOrigin, Replaced, place_of
from footplate.errors import Origin


class TracedDict(dict[Any, Any]):
    """A dict that records the file and line of each statement that sets a key.

    `dict(...)` and `{...}` create it while a config runs. Otherwise it behaves like a dict. `_origins` maps each key to
    its place, and None to the place of the dict itself.
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

    def __ior__(self, other: Any) -> "TracedDict":  # type: ignore[misc]
        self._write_all(dict(other), sys._getframe(1))
        return self

    def __copy__(self) -> "TracedDict":
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> "TracedDict":
        result = type(self)()
        memo[id(self)] = result
        for key, value in self.items():
            dict.__setitem__(result, copy.deepcopy(key, memo), copy.deepcopy(value, memo))
        result._remember(self)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self)._restored, (dict(self), self._origins))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key, after setting it to `default` if it is missing."""
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
        result._remember(self)
        return result

    def _write(self, key: Any, value: object, frame: FrameType, known: Origin | None = None) -> None:
        """Sets a key; its origin is `known`, or else the current statement of `frame`."""
        replaced = Replaced(dict.__getitem__(self, key), self._origins.get(key)) if key in self else None
        super().__setitem__(key, self._taken_in(value))
        file, line = known or place_of(frame)
        self._origins[key] = KeyOrigin(file, line, replaced)

    def _write_all(self, items: Mapping[Any, Any], frame: FrameType, source: object = None) -> None:
        known = _origins_of(source if source is not None else items)
        for key, value in items.items():
            self._write(key, value, frame, known.get(key))

    def _taken_in(self, value: object) -> object:
        """Returns the value to store."""
        return value

    def _remember(self, other: "TracedDict") -> None:
        object.__setattr__(self, "_origins", dict(other._origins))

    @classmethod
    def _restored(cls, items: dict[Any, Any], origins: dict[object, Origin], *rest: object) -> "TracedDict":
        result = cls()
        dict.update(result, items)
        object.__setattr__(result, "_origins", origins)
        return result


def _origins_of(value: object) -> Mapping[object, Origin]:
    return value._origins if isinstance(value, TracedDict) else {}
