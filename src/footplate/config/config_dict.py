"""Dicts that record the origins of their keys.

These functions copy or convert a config. The origins of keys are always copied, except by `to_dict`. Values other than
dicts, lists and tuples are shared, except by `deepcopy`.

| function | nested dicts | lists and tuples |
|---|---|---|
| `TracedDict.copy` | shared | shared |
| `ConfigDict(...)`, `ConfigDict.copy` | a `ConfigDict` is shared, others are converted | new |
| `as_config_dict(..., copies=False)` | the same; `value` itself is shared, too, if it is a `ConfigDict` | new |
| `as_config_dict(..., copies=True)` | new | new |
| `deepcopy` | new | new |
| `to_dict` | new, plain dicts | new |
"""

import copy
import operator
import os
import sys
from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple

from footplate.config.imports import LazyObject
from footplate.error_context import at_key, origin_of
from footplate.errors import (
    PACKAGE,
    PACKAGES,
    ConfigAttributeError,
    ConfigError,
    ConfigKeyError,
    ConfigTypeError,
    Origin,
)
from footplate.extensions import recipe_folders
from footplate.messages import nearest

_HERE = os.path.join(PACKAGE, "config", "")
_COMMANDS = os.path.join(PACKAGE, "cli", "")


class Replaced(NamedTuple):
    """A value that was replaced, and its origin if known."""

    value: Any
    origin: Origin | None


class KeyOrigin(Origin):
    """The place where a key was last set, and the value that the key had before.

    Args:
        file: The file, or a source such as `--set`.
        line: The line, starting at 1, or 0 if the source has no lines.
        replaced: The previous value of the key.
    """

    replaced: Replaced | None
    # The keys of the config that use the value that was set here, as a variable; set by `mark_read`.
    readers: Set[tuple[str, Origin]] = frozenset()

    def __new__(cls, file: str, line: int, replaced: Replaced | None = None) -> "KeyOrigin":
        """Creates an origin. Origins are compared and hashed by file and line."""
        self = super().__new__(cls, file, line)
        self.replaced = replaced
        earlier = replaced.origin if replaced else None
        if isinstance(earlier, KeyOrigin) and earlier == (file, line):  # the key is set in a loop
            self.replaced = earlier.replaced
        return self

    @property
    def is_override(self) -> bool:
        """Whether the value comes from an override such as `--set` rather than from a config file."""
        return not self.line and not os.path.isabs(self.file)


def mark_read(config: "TracedDict", reads: Mapping[str, Set[tuple[str, Origin]]]) -> None:
    """Marks the top-level keys that the code of a config file reads as variables.

    In `lr = 0.1; optimizer = dict(lr=lr)`, `lr` is read here. If a second file inherits from this one and sets
    `lr = 0.2`, the new value is not read there, so `find_unused_changes` reports it.
    """
    for name, readers in reads.items():
        if isinstance(origin := config._origins.get(name), KeyOrigin):
            origin.readers |= readers


def is_variable(config: object, key: object) -> bool:
    """Checks whether other lines of the config use a top-level key as a variable."""
    return bool(readers_of(origin_of(config, key)))


def readers_of(origin: Origin | None) -> set[tuple[str, Origin]]:
    """Returns the keys that use a variable's value or its previous values, as pairs of name and location."""
    return {each for past in value_history(None, origin) for each in getattr(past.origin, "readers", ())}


def value_history(value: object, origin: Origin | None) -> list[Replaced]:
    """Returns all values of a key, from the value in the first base config to the current `value`."""
    links = [Replaced(value, origin)]
    while isinstance(origin, KeyOrigin) and origin.replaced is not None:
        links.append(origin.replaced)
        origin = origin.replaced.origin
    return links[::-1]


def calling_line() -> Origin:
    """Returns the file and line of the code that called `footplate.config`.

    If a command of footplate is the caller, the file is "the command line". For all other footplate code except
    recipes, the file is "footplate itself". In both cases, the line is 0.
    """
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    file = frame.f_code.co_filename
    if file.startswith(_COMMANDS):
        return Origin("the command line", 0)
    if file.startswith(PACKAGES) and not file.startswith(recipe_folders()):
        return Origin("footplate itself", 0)
    return Origin(file, frame.f_lineno)


class TracedDict(dict[Any, Any]):
    """A dict that records the file and line of each statement that sets a key.

    While a config is executed, `dict(...)` and `{...}` create instances of this class. `_origins` maps each key to its
    origin, and None to the dict's own origin.
    """

    _origins: dict[object, Origin]

    def __new__(cls, /, *args: object, **kwargs: object) -> "TracedDict":
        """Creates an empty dict without origins."""
        self = super().__new__(cls)
        self._origins = {}
        return self

    def __setitem__(self, key: Any, value: object) -> None:
        self._set_recording_previous(key, value, calling_line())

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
            dict.__setitem__(result, copy.deepcopy(key, memo), copy.deepcopy(value, memo))
        result._origins = dict(self._origins)
        return result

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Returns the value of a key. If the key is missing, first sets it to `default`."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        """Sets several keys. In a `ConfigDict`, dicts are merged into existing dicts.

        If the argument is a dict with recorded origins, its keys keep these origins. The origin of any other key is the
        line that calls this method.
        """
        origins = getattr(args[0], "_origins", {}) if args else {}
        line = calling_line()
        for key, value in dict(*args, **kwargs).items():
            present = dict.get(self, key)
            if isinstance(self, ConfigDict) and isinstance(present, ConfigDict) and isinstance(value, dict):
                present.update(value)
            else:
                self._set_recording_previous(key, value, origins.get(key) or line)

    def copy(self) -> "TracedDict":
        """Returns a shallow copy with the same origins."""
        result = type(self)()
        dict.update(result, self)
        result._origins = dict(self._origins)
        return result

    def _set_with_origin(self, key: Any, value: object, origin: Origin | None) -> None:
        """Sets a key and, if known, its origin. Does not record the previous value."""
        dict.__setitem__(self, key, value)
        if origin is not None:
            self._origins[key] = origin

    def _set_recording_previous(self, key: Any, value: object, origin: Origin | None) -> None:
        """Sets a key and, if its origin is known, records the previous value."""
        if origin is not None and key in self:
            origin = KeyOrigin(*origin, Replaced(dict.__getitem__(self, key), self._origins.get(key)))
        self._set_with_origin(key, value, origin)


class ConfigDict(TracedDict):
    """A dict with attribute access that records the origins of its keys.

    Nested dicts, including those in lists and tuples, are converted to `ConfigDict`. `origin_of(config, key)` returns
    the file and line where a key was last set.

    Example:
        >>> optimizer = ConfigDict(type="SGD", schedule=dict(lr=0.1))
        >>> optimizer.schedule.lr
        0.1
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for key, value in self.items():
            dict.__setitem__(self, key, as_config_dict(value, copies=False))
        if args and isinstance(args[0], TracedDict):
            self._origins.update(args[0]._origins)

    def __getattr__(self, name: str) -> Any:
        try:
            value = dict.__getitem__(self, name)
        except KeyError:
            if name.startswith("__"):  # Python often probes such names, and the message would be ignored
                raise AttributeError(name) from None
            raise self._missing(name, ConfigAttributeError) from None
        # Scripts compare `cfg.model.type` with classes. Keys in brackets stay lazy, so that tools import nothing.
        return value.build() if isinstance(value, LazyObject) else value

    def __missing__(self, key: object) -> Any:
        raise self._missing(key, ConfigKeyError)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_origins":
            object.__setattr__(self, name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise self._missing(name, ConfigAttributeError)
        super().__delitem__(name)

    def __or__(self, other: Mapping[Any, Any]) -> "ConfigDict":
        result: ConfigDict = as_config_dict(self, copies=True)
        result.update(other)
        return result

    def copy(self) -> "ConfigDict":
        """Returns a copy that shares nested dicts with the original, but not lists and tuples."""
        return type(self)(self)

    def deepcopy(self) -> "ConfigDict":
        """Returns a deep copy with the same origins."""
        return copy.deepcopy(self)

    def pop(self, key: Any, default: Any = None) -> Any:
        """Removes a key and returns its value, or `default` if the key is missing."""
        return super().pop(key, default)

    def merge(self, options: Mapping[Any, Any]) -> None:
        """Merges a mapping into this dict. Nested dicts are merged, and other values are replaced.

        A dict with `_delete_=True` replaces the existing dict.

        Raises:
            ConfigError: A dict would be merged into a value that is not a dict.
        """
        child: ConfigDict = as_config_dict(options, copies=True)
        for key in child:
            child._origins.setdefault(key, calling_line())
        merge_into(self, child)

    def to_dict(self) -> dict[Any, Any]:
        """Returns a copy as plain dicts. Lazily imported names become dotted strings."""
        return to_plain(self)  # type: ignore[no-any-return]

    def _set_recording_previous(self, key: Any, value: object, origin: Origin | None) -> None:
        super()._set_recording_previous(key, as_config_dict(value, copies=False), origin)

    def _missing(self, key: object, error_class: Callable[..., ConfigError]) -> Exception:
        near = nearest(key, map(str, self))
        notes = []
        if near is None and error_class is ConfigAttributeError:  # such as cfg.device, which MMDetection 2.21 added
            notes = ["Set it in the config, or in the script before it is read."]
        return error_class(f"the config has no key '{key}'", origin=origin_of(self), suggestion=near, notes=notes)


class Override(NamedTuple):
    """Settings for merging an override such as `--set`, which changes the existing dicts in place.

    Attributes:
        origin: The origin of all values.
        allow_list_keys: Whether a dict with indices as keys can be merged into a list.
    """

    origin: Origin
    allow_list_keys: bool


def merge_into(base: ConfigDict, child: ConfigDict, override: Override | None = None) -> ConfigDict:
    """Merges `child` into `base` and returns `base`. Do not use `child` afterwards.

    Args:
        base: The config, changed in place.
        child: The keys to merge. As in MMEngine, a dict under a key that `base` lacks keeps its `_delete_`.
        override: Set if `child` is an override. By default, it comes from a file, and existing dicts are copied first.

    Raises:
        ConfigError: A dict without `_delete_` would be merged into a value that is not a dict.
    """
    for key, value in child.items():
        origin = override.origin if override else child._origins.get(key)
        if key in base:
            present = dict.__getitem__(base, key)
            with at_key(str(key)):
                value = _merged(present, value, origin, override)
            if override and value is present:  # changed in place, or not at all, so the key keeps its origin
                continue
        base._set_recording_previous(key, value, origin)
    if None not in base._origins and None in child._origins:
        base._origins[None] = child._origins[None]
    return base


def _merged(present: Any, value: Any, origin: Origin | None, override: Override | None) -> Any:
    """Returns the value for a key that is `present` in the base and has a new `value`, which was set at `origin`."""
    if not isinstance(value, ConfigDict) or value.pop("_delete_", False):
        return value
    if isinstance(present, ConfigDict):
        # The base may contain the same dict elsewhere, where it must not change.
        return merge_into(present if override else present.copy(), value, override)
    is_list = override is not None and override.allow_list_keys and isinstance(present, (list, tuple))
    if is_list and all(is_index(key) and int(key) < len(present) for key in value):
        items = list(present)
        for key, item in value.items():
            items[int(key)] = _merged(items[int(key)], item, origin, override)
        return present if all(map(operator.is_, items, present)) else type(present)(items)
    raise ConfigTypeError(
        f"a dict cannot be merged into a value of type {type(present).__name__}",
        origin=origin,
        found=present,
        notes=[
            "Use the indices of existing items as keys, or set the whole list."
            if is_list
            else "Set a complete value, or add `_delete_=True` to the dict to replace the value."
        ],
    )


def is_index(part: object) -> bool:
    """Checks whether a part of a key path can be a list index."""
    return isinstance(part, int) or (isinstance(part, str) and part.isdigit())


def as_config_dict(value: Any, *, copies: bool) -> Any:
    """Converts every dict in a value to a `ConfigDict`. Lists and tuples are new.

    Args:
        value: Any value.
        copies: Whether to copy each existing `ConfigDict` rather than keep it.
    """
    if isinstance(value, ConfigDict) and not copies:
        return value
    if isinstance(value, dict):
        # Skips the constructor for speed: this runs for every dict of every config.
        result = ConfigDict.__new__(ConfigDict)
        for key, item in value.items():
            dict.__setitem__(result, key, as_config_dict(item, copies=copies))
        result._origins = dict(value._origins) if isinstance(value, TracedDict) else {}
        return result
    if type(value) in (list, tuple):
        return type(value)([as_config_dict(item, copies=copies) for item in value])
    return value


def to_plain(value: Any) -> Any:
    """Returns a copy with plain dicts, and with dotted strings instead of lazily imported names."""
    if isinstance(value, LazyObject):
        return value.dotted_path
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)([to_plain(item) for item in value])
    return value
