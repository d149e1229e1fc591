"""`ConfigDict`: a dict with attribute access that records the origins of its keys."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from footplate.config.imports import LazyObject
from footplate.config.origins import KeyOrigin, Replaced, TracedDict, calling_line
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

    def _write(self, key: Any, value: object, place: Origin) -> None:
        super()._write(key, _convert_dicts(value), place)

    def _missing(self, key: object, kind: Callable[..., ConfigError]) -> Exception:
        near = nearest(key, [name for name in self if isinstance(name, str)]) if isinstance(key, str) else None
        return kind(f"the config has no key '{key}'", origin=origin_of(self), suggestion=near)


def merge_into(base: ConfigDict, child: ConfigDict) -> ConfigDict:
    """Merges `child` into `base` and returns `base`. `child` must not be used afterwards.

    Raises:
        ConfigError: A dict without `_delete_` would be merged into a value that is not a dict.
    """
    for key, value in child.items():
        origin, present = child._origins.get(key), dict.get(base, key)
        replaced = Replaced(present, base._origins.get(key)) if key in base else None
        # As in MMEngine, a dict for which the base has no value keeps `_delete_`.
        if isinstance(value, ConfigDict) and replaced is not None and not value.pop("_delete_", False):
            if not isinstance(present, ConfigDict):
                raise ConfigError(
                    f"a dict cannot be merged into the {type(present).__name__} of the base",
                    origin=origin,
                    key=str(key),
                    found=present,
                    notes=["Add `_delete_=True` to the dict to replace the value of the base."],
                )
            # The base may contain the same dict elsewhere, where it must not change.
            with at_key(str(key)):
                value = merge_into(present.copy(), value)
        base._put(key, value, KeyOrigin(*origin, replaced) if origin and replaced else origin)
    if None not in base._origins and None in child._origins:
        base._origins[None] = child._origins[None]
    return base


def strip_delete_marks(value: Any) -> Any:
    """Removes `_delete_` from a dict that replaces the value of the base, and from the dicts in it."""
    if isinstance(value, ConfigDict):
        value.pop("_delete_")
        for item in value.values():
            strip_delete_marks(item)
    return value


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
