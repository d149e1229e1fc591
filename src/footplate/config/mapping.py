"""`ConfigDict`: a dict with attribute access that records where its keys were written."""

import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

from footplate.config.lazy import LazyObject
from footplate.config.origins import KeyOrigin, Place, Replaced, place_of
from footplate.config.traced import TracedDict
from footplate.error_context import at_key, origin_of
from footplate.errors import ConfigAttributeError, ConfigError, ConfigKeyError, Origin
from footplate.messages import nearest

_LEAVES = frozenset({str, int, float, bool, type(None), bytes, complex})


class ConfigDict(TracedDict):
    """A dict with attribute access that records where its keys were written.

    Nested dicts, also in lists and tuples, become `ConfigDict`. `origin_of(config, key)` returns the file and line of a
    key. A key that is set later gets the place of the statement that set it.

    Example:
        >>> optimizer = ConfigDict(type="SGD", schedule=dict(lr=0.1))
        >>> optimizer.schedule.lr
        0.1
    """

    __slots__ = ("_place",)

    _place: str

    def __new__(cls, /, *args: object, **kwargs: object) -> "ConfigDict":
        """Creates an empty mapping without origins."""
        self = dict.__new__(cls)
        object.__setattr__(self, "_origins", {})
        object.__setattr__(self, "_place", "")
        return self

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for key, value in self.items():
            if type(value) not in _LEAVES:
                dict.__setitem__(self, key, _converted(value))
        if args and isinstance(args[0], TracedDict):
            self._origins.update(args[0]._origins)

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None) -> "ConfigDict":
        """Returns a mapping with the given keys and one value for all of them."""
        return cls(dict.fromkeys(iterable, value))

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
        self._write(name, value, sys._getframe(1))

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise self._missing(name, ConfigAttributeError)
        super().__delitem__(name)

    def __or__(self, other: Mapping[Any, Any]) -> "ConfigDict":
        result: ConfigDict = settled(self, self._place)
        result._write_all(other, sys._getframe(1))
        return result

    def __ior__(self, other: Any) -> "ConfigDict":  # type: ignore[misc]
        self._write_all(dict(other), sys._getframe(1))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self)._restored, (dict(self), self._origins, self._place))

    def copy(self) -> "ConfigDict":
        """Returns a copy with new lists and tuples; nested dicts are shared with the original."""
        result = ConfigDict.__new__(type(self))
        dict.update(result, {key: self._taken_in(value) for key, value in self.items()})
        result._remember(self)
        return result

    def pop(self, key: Any, default: Any = None) -> Any:
        """Removes a key and returns its value, or `default` if the key is missing."""
        return super().pop(key, default)

    def merge(self, options: Mapping[Any, Any]) -> None:
        """Merges a mapping like a config into its base: merges dicts, supports `_delete_`, and replaces other values.

        Raises:
            ConfigError: If a dict would be merged into a value that is not a dict.
        """
        frame = sys._getframe(1)
        child: ConfigDict = settled(options)
        for key in child:
            child._origins.setdefault(key, KeyOrigin(*place_of(frame)))
        merge_into(self, child)

    def to_dict(self) -> dict[Any, Any]:
        """Returns plain dicts; lazily imported names become dotted strings."""
        return {key: plain(value) for key, value in self.items()}

    def _write_all(self, items: Mapping[Any, Any], frame: FrameType, source: object = None) -> None:
        """Sets several keys; merges a dict into an existing dict."""
        known = getattr(source if source is not None else items, "_origins", {})
        for key, value in items.items():
            held = dict.get(self, key)
            if isinstance(held, ConfigDict) and isinstance(value, dict):
                held._write_all(value, frame)
            else:
                self._write(key, value, frame, known.get(key))

    def _taken_in(self, value: object) -> object:
        return value if type(value) in _LEAVES else _converted(value)

    def _remember(self, other: TracedDict) -> None:
        super()._remember(other)
        if isinstance(other, ConfigDict):
            object.__setattr__(self, "_place", other._place)

    @classmethod
    def _restored(cls, items: dict[Any, Any], origins: dict[object, Origin], *rest: object) -> "TracedDict":
        result = super()._restored(items, origins)
        object.__setattr__(result, "_place", rest[0])
        return result

    def _missing(self, key: object, kind: Callable[..., ConfigError]) -> Exception:
        holder = f"'{self._place}'" if self._place else "the config"
        near = nearest(key, [name for name in self if isinstance(name, str)]) if isinstance(key, str) else None
        return kind(f"{holder} has no key '{key}'", origin=origin_of(self), suggestion=near)


_set_origins = ConfigDict._origins.__set__  # type: ignore[attr-defined]
_set_place = ConfigDict._place.__set__  # type: ignore[attr-defined]


def merge_into(base: ConfigDict, child: ConfigDict) -> ConfigDict:
    """Merges `child` into `base` and returns `base`; `child` must not be used afterwards.

    Raises:
        ConfigError: If a dict would be merged into a value that is not a dict, without `_delete_`.
    """
    for key, value in child.items():
        origin = child._origins.get(key)
        replaced = Replaced(dict.__getitem__(base, key), base._origins.get(key)) if key in base else None
        dict.__setitem__(base, key, _merged(key, base, value, origin))
        if origin is None:
            base._origins.pop(key, None)
        else:
            base._origins[key] = _behind(origin, replaced)
    if None not in base._origins and None in child._origins:
        base._origins[None] = child._origins[None]
    return base


def _merged(key: Any, base: ConfigDict, value: Any, origin: Origin | None) -> Any:
    if not isinstance(value, ConfigDict) or key not in base:
        return value
    held = dict.__getitem__(base, key)
    if value.pop("_delete_", False):
        return value
    if isinstance(held, ConfigDict):
        # The base may contain the same dict elsewhere, where it must not change.
        with at_key(str(key)):
            return merge_into(held.copy(), value)
    raise ConfigError(
        f"a dict cannot be merged into the {type(held).__name__} of the base",
        origin=origin,
        key=str(key),
        found=held,
        notes=["write `_delete_=True` into the dict to replace the value of the base"],
    )


def _behind(origin: Origin, replaced: Replaced | None) -> Origin:
    """Appends the value of the base to the end of the chain of values that the key had in the child."""
    if replaced is None:
        return origin
    earlier = origin.replaced if isinstance(origin, KeyOrigin) else None
    if earlier is None:
        return KeyOrigin(*origin, replaced)
    behind = _behind(earlier.origin or Place("", 0), replaced)
    return KeyOrigin(*origin, Replaced(earlier.value, behind))


def settled(value: Any, place: str = "") -> Any:
    """Returns a copy in which every dict is a separate `ConfigDict` that stores its key path."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if isinstance(value, dict):
        # Skips the constructor, since this runs for every dict of every config.
        result = dict.__new__(ConfigDict)
        dict.update(result, value)
        prefix = f"{place}." if place else ""
        for key, item in value.items():
            if type(item) not in _LEAVES:
                dict.__setitem__(result, key, settled(item, f"{prefix}{key}"))
        _set_origins(result, dict(value._origins) if isinstance(value, TracedDict) else {})
        _set_place(result, place)
        return result
    if kind is list or kind is tuple:
        if all(type(item) in _LEAVES for item in value):
            return list(value) if kind is list else value
        return kind([settled(item, f"{place}[{index}]") for index, item in enumerate(value)])
    return value


def plain(value: Any) -> Any:
    """Returns a copy with plain dicts, and dotted strings for lazily imported names."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)([plain(item) for item in value])
    return value.dotted_path if isinstance(value, LazyObject) else value


def _converted(value: Any) -> Any:
    """Returns a value with nested dicts converted to `ConfigDict`; an existing `ConfigDict` is kept."""
    if isinstance(value, ConfigDict):
        return value
    if isinstance(value, dict):
        return ConfigDict(value)
    if type(value) in (list, tuple):
        return type(value)([item if type(item) in _LEAVES else _converted(item) for item in value])
    return value
