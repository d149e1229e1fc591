"""`ConfigDict`: a dict with attribute access that records the origins of its keys."""

import operator
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from footplate.config.imports import LazyObject
from footplate.config.origins import TracedDict, calling_line
from footplate.error_context import at_key, origin_of
from footplate.errors import ConfigAttributeError, ConfigError, ConfigKeyError, Origin
from footplate.messages import nearest

_LEAVES = frozenset({str, int, float, bool, type(None), bytes, complex})


class ConfigDict(TracedDict):
    """A dict with attribute access that records the origins of its keys.

    Nested dicts, including those in lists and tuples, become `ConfigDict`. `origin_of(config, key)` returns the file
    and line where a key was last set.

    Example:
        >>> optimizer = ConfigDict(type="SGD", schedule=dict(lr=0.1))
        >>> optimizer.schedule.lr
        0.1
    """

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for key, value in self.items():
            dict.__setitem__(self, key, _convert_dicts(value))
        if args and isinstance(args[0], TracedDict):
            self._origins.update(args[0]._origins)

    def __getattr__(self, name: str) -> Any:
        try:
            return dict.__getitem__(self, name)
        except KeyError:
            if name.startswith("__"):  # Python often probes such names and ignores the message
                raise AttributeError(name) from None
            raise self._missing(name, ConfigAttributeError) from None

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
        result: ConfigDict = copy_as_config_dict(self)
        result.update(other)
        return result

    def update(self, /, *args: Any, **kwargs: Any) -> None:
        """Sets several keys. A dict is merged into an existing dict."""
        origins, place = getattr(args[0], "_origins", {}) if args else {}, calling_line()
        for key, value in dict(*args, **kwargs).items():
            present = dict.get(self, key)
            if isinstance(present, ConfigDict) and isinstance(value, dict):
                present.update(value)
            else:
                self._write(key, value, origins.get(key) or place)

    def copy(self) -> "ConfigDict":
        """Returns a copy with new lists and tuples. Nested dicts are shared with the original."""
        return type(self)(self)

    def deepcopy(self) -> "ConfigDict":
        """Returns a copy in which nested dicts and lists are copied, too."""
        return deepcopy(self)

    def pop(self, key: Any, default: Any = None) -> Any:
        """Removes a key and returns its value, or `default` if the key is missing."""
        return super().pop(key, default)

    def merge(self, options: Mapping[Any, Any]) -> None:
        """Merges a mapping as a config is merged into its base: dicts are merged, and other values are replaced.

        A dict with `_delete_=True` replaces the existing dict.

        Raises:
            ConfigError: A dict would be merged into a value that is not a dict.
        """
        child: ConfigDict = copy_as_config_dict(options)
        for key in child:
            child._origins.setdefault(key, calling_line())
        merge_into(self, child)

    def to_dict(self) -> dict[Any, Any]:
        """Returns plain dicts. Lazily imported names become dotted strings."""
        plain: dict[Any, Any] = to_plain(self)
        return plain

    def _write(self, key: Any, value: object, place: Origin | None) -> None:
        super()._write(key, _convert_dicts(value), place)

    def _missing(self, key: object, kind: Callable[..., ConfigError]) -> Exception:
        near = nearest(key, [name for name in self if isinstance(name, str)]) if isinstance(key, str) else None
        return kind(f"the config has no key '{key}'", origin=origin_of(self), suggestion=near)


def merge_into(
    base: ConfigDict, child: ConfigDict, *, option: Origin | None = None, allow_list_keys: bool = False
) -> ConfigDict:
    """Merges `child` into `base` and returns `base`. `child` must not be used afterwards.

    Args:
        base: The config, changed in place.
        child: The keys to merge. As in MMEngine, a dict for which the base has no value keeps `_delete_`.
        option: The origin of all values, if they come from an option rather than from a file.
        allow_list_keys: Whether a dict with indices as keys changes the items of a list.

    Raises:
        ConfigError: A dict without `_delete_` would be merged into a value that is not a dict.
    """
    for key, value in child.items():
        origin, present = option or child._origins.get(key), dict.get(base, key)
        if key in base:
            with at_key(str(key)):
                value = _merged(present, value, origin, option, allow_list_keys)
        if option is None or key not in base or value is not present:
            base._write(key, value, origin)
    if None not in base._origins and None in child._origins:
        base._origins[None] = child._origins[None]
    return base


def _merged(present: Any, value: Any, origin: Origin | None, option: Origin | None, allow_list_keys: bool) -> Any:
    if not isinstance(value, ConfigDict) or value.pop("_delete_", False):
        return value
    if isinstance(present, ConfigDict):
        # The base file may contain the same dict elsewhere, where it must not change.
        target = present if option else present.copy()
        return merge_into(target, value, option=option, allow_list_keys=allow_list_keys)
    is_list = allow_list_keys and isinstance(present, (list, tuple))
    if is_list and all(is_index(key) and int(key) < len(present) for key in value):
        items = list(present)
        for key, item in value.items():
            items[int(key)] = _merged(items[int(key)], item, origin, option, allow_list_keys)
        return present if all(map(operator.is_, items, present)) else type(present)(items)
    raise ConfigError(
        f"a dict cannot be merged into a {type(present).__name__}",
        origin=origin,
        found=present,
        notes=[
            "Use the indices of existing items as keys, or set the whole list."
            if isinstance(present, (list, tuple))
            else "Add `_delete_=True` to the dict to replace the value."
        ],
    )


def is_index(part: object) -> bool:
    """Checks whether a part of a key path can be an index into a list."""
    return isinstance(part, int) or (isinstance(part, str) and part.isdigit())


def copy_as_config_dict(value: Any) -> Any:
    """Returns a copy in which every dict is a separate `ConfigDict`."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if isinstance(value, dict):
        # Skips the constructor, since this runs for every dict of every config.
        result = ConfigDict.__new__(ConfigDict)
        for key, item in value.items():
            dict.__setitem__(result, key, copy_as_config_dict(item))
        result._origins = dict(value._origins) if isinstance(value, TracedDict) else {}
        return result
    if kind is list or kind is tuple:
        return kind([copy_as_config_dict(item) for item in value])
    return value


def to_plain(value: Any) -> Any:
    """Returns a copy with plain dicts, and dotted strings for lazily imported names."""
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)([to_plain(item) for item in value])
    return value.dotted_path if isinstance(value, LazyObject) else value


def _convert_dicts(value: Any) -> Any:
    """Converts nested dicts in a value to `ConfigDict`. Existing `ConfigDict` objects are kept."""
    if isinstance(value, ConfigDict):
        return value
    if isinstance(value, dict):
        return ConfigDict(value)
    if type(value) in (list, tuple):
        return type(value)([item if type(item) in _LEAVES else _convert_dicts(item) for item in value])
    return value
