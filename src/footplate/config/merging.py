"""Sets and finds values by key path: `model.backbone.depth`, `pipeline.0.type`, `pipeline[0].type`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from footplate.config.mapping import ConfigDict, settled
from footplate.config.origins import KeyOrigin, Replaced
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin
from footplate.messages import list_names, nearest

_PART = re.compile(r"""'([^']*)'|"([^"]*)"|\[([^\[\]]+)\]|([^.\[\]'"]+)""")

_ABSENT = object()
_MOST_LISTED = 12


class Placing(NamedTuple):
    """How to set values.

    Attributes:
        origin: Where the value comes from.
        list_keys: Whether numbers are indices into lists and tuples.
    """

    origin: Origin
    list_keys: bool = True


def split_path(path: str) -> list[str]:
    """Splits a key path at dots and brackets; a quoted key may contain dots.

    Raises:
        ConfigError: If a part is empty.

    Example:
        >>> split_path("optim_wrapper.custom_keys.'layers.0'.lr_mult")
        ['optim_wrapper', 'custom_keys', 'layers.0', 'lr_mult']
        >>> split_path("pipeline[0].type")
        ['pipeline', '0', 'type']
    """
    parts, at = [], 0
    while True:
        match = _PART.match(path, at)
        if match is None:
            raise ConfigError("a part of the key path is empty or not closed", key=path)
        parts.append(next(group for group in match.groups() if group is not None))
        at = match.end()
        if at == len(path):
            return parts
        if path[at] == ".":
            at += 1
        elif path[at] != "[":
            raise ConfigError("the parts of a key path are separated by dots", key=path)


def merge_options(
    config: ConfigDict, options: Mapping[str, Any], *, origin: Origin, allow_list_keys: bool = True
) -> None:
    """Merges values by key path into `config`.

    Raises:
        ConfigError: If a path goes through a value that is not a dict, or past the end of a list.
    """
    for path, value in options.items():
        place = Placing(origin, allow_list_keys)
        put(config, split_path(path) if isinstance(path, str) else [path], settled(value), place, [])


def put(holder: Any, parts: list[Any], value: Any, placing: Placing, done: list[Any]) -> Any:
    """Sets `value` at a path below `holder`; returns the holder or its replacement.

    Args:
        holder: A dict, which is changed in place, or a list or tuple, which is replaced by a new one.
        parts: The rest of the path.
        value: The value; a dict is merged into an existing dict.
        placing: How to set the value.
        done: The path to `holder`, for errors.
    """
    if isinstance(holder, ConfigDict):
        key, rest = next_key(holder, parts)
        held = dict.get(holder, key, _ABSENT)
        if rest:
            new = put(ConfigDict() if held is _ABSENT else held, rest, value, placing, [*done, key])
        else:
            new = _merged(held, value, placing, [*done, key])
        _set(holder, key, new, placing.origin)
        return holder
    if placing.list_keys and isinstance(holder, (list, tuple)):
        return _put_in_list(holder, parts, value, placing, done)
    raise ConfigError(
        f"'{joined(done)}' is a {type(holder).__name__} and has nothing below it",
        origin=placing.origin,
        key=joined([*done, *parts]),
        found=holder,
    )


def _put_in_list(
    holder: "list[Any] | tuple[Any, ...]", parts: list[Any], value: Any, placing: Placing, done: list[Any]
) -> "list[Any] | tuple[Any, ...]":
    index = _index(holder, parts[0], done, placing.origin)
    place = [*done, index]
    if len(parts) > 1:
        new = put(holder[index], parts[1:], value, placing, place)
    else:
        new = _merged(holder[index], value, placing, place)
    if new is holder[index]:  # a dict that was changed in place
        return holder
    # Creates a new sequence, so that its key gets the new origin and keeps its old value.
    items = [*holder[:index], new, *holder[index + 1 :]]
    return tuple(items) if isinstance(holder, tuple) else items


def next_key(holder: ConfigDict, parts: list[Any]) -> tuple[Any, list[Any]]:
    """Returns the next key of a path and the remaining parts; a key may contain dots or be an integer."""
    for count in range(len(parts), 1, -1):
        key = ".".join(map(str, parts[:count]))
        if key in holder:
            return key, parts[count:]
    first = parts[0]
    if first not in holder and isinstance(first, str) and first.lstrip("-").isdigit() and int(first) in holder:
        first = int(first)
    return first, parts[1:]


def find(config: ConfigDict, path: str) -> tuple[Any, Any, Any]:
    """Returns the container of a key path's last key, that key, and its value.

    Raises:
        ConfigKeyError: If there is no such key. The error suggests paths with the same ending, or the nearest key in
            the closest existing ancestor.
        ConfigError: If the path goes past the end of a list, or through a scalar.
    """
    try:
        return _follow(config, path)
    except ConfigKeyError as error:
        ending = paths_ending(config, path) or ([] if error.suggestion else _misspelt_ending(config, path))
        if ending:
            error.suggestion = ending[0]
            error.notes = (f"or: {list_names(ending[1:], _MOST_LISTED)}",) if len(ending) > 1 else ()
        raise


def paths_ending(config: Any, path: str) -> list[str]:
    """Returns the key paths in `config` that end with `path`, the shortest first.

    Raises:
        ConfigError: If a part of the path is empty.

    Example:
        >>> paths_ending(ConfigDict(optim_wrapper=dict(optimizer=dict(lr=0.1))), "optimizer.lr")
        ['optim_wrapper.optimizer.lr']
    """
    words = split_path(path)
    found = [each for each in _paths(config, []) if [str(part) for part in each[-len(words) :]] == words]
    return [joined(each) for each in sorted(found, key=len)]


def _misspelt_ending(config: Any, path: str) -> list[str]:
    names = {str(each[-1]): None for each in _paths(config, [])}
    return paths_ending(config, joined([nearest(part, names) or part for part in split_path(path)]))


def _paths(value: Any, done: list[Any]) -> Iterator[list[Any]]:
    if done:
        yield done
    if isinstance(value, ConfigDict):
        for key in value:
            yield from _paths(dict.__getitem__(value, key), [*done, key])
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _paths(item, [*done, place])


def _follow(config: ConfigDict, path: str) -> tuple[Any, Any, Any]:
    holder: Any = config
    parts: list[Any] = list(split_path(path))
    done: list[Any] = []
    while True:
        if isinstance(holder, ConfigDict):
            key, parts = next_key(holder, parts)
            if key not in holder:
                raise missing_key(holder, key, done)
            value = dict.__getitem__(holder, key)
        elif isinstance(holder, (list, tuple)):
            key = _index(holder, parts[0], done, None)
            parts, value = parts[1:], holder[key]
        else:
            raise ConfigError(f"'{joined(done)}' is a {type(holder).__name__} and has nothing below it", found=holder)
        done.append(key)
        if not parts:
            return holder, key, value
        holder = value


def missing_key(holder: ConfigDict, key: Any, done: list[Any]) -> ConfigKeyError:
    """Returns the error for a key that is missing in `holder`, which is at the path `done`."""
    near = nearest(str(key), [str(name) for name in holder])
    where = f"'{joined(done)}'" if done else "the config"
    return ConfigKeyError(
        f"{where} has no key '{key}'",
        origin=origin_of(holder) if done else None,
        key=joined([*done, key]),
        suggestion=joined([*done, near]) if near else None,
        notes=[] if near else [f"its keys: {list_names(holder, _MOST_LISTED)}"],
    )


def joined(parts: list[Any]) -> str:
    """Returns a key path as text."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            quoted = f"'{part}'" if "." in str(part) else str(part)
            text += f".{quoted}" if text else quoted
    return text


def _merged(held: Any, value: Any, placing: Placing, done: list[Any]) -> Any:
    """Returns the value at the path `done` after setting `value` in place of `held`."""
    if not isinstance(value, ConfigDict) or value.pop("_delete_", False) or held is _ABSENT:
        return value
    if isinstance(held, ConfigDict):
        for key, item in value.items():
            old = dict.get(held, key, _ABSENT)
            _set(held, key, _merged(old, item, placing, [*done, key]), placing.origin)
        return held
    if isinstance(held, (list, tuple)) and placing.list_keys and all(map(_is_index, value)):
        for key, item in value.items():
            held = put(held, [key], item, placing, done)
        return held
    raise ConfigError(
        f"a dict cannot be merged into a {type(held).__name__}",
        origin=placing.origin,
        key=joined(done),
        found=held,
        notes=["put `_delete_=True` into the dict to replace the value"],
    )


def _set(holder: ConfigDict, key: Any, value: Any, origin: Origin) -> None:
    replaced = Replaced(dict.__getitem__(holder, key), holder._origins.get(key)) if key in holder else None
    dict.__setitem__(holder, key, value)
    if replaced is None or replaced.value is not value:
        holder._origins[key] = KeyOrigin(*origin, replaced)


def _is_index(part: object) -> bool:
    return isinstance(part, int) or (isinstance(part, str) and part.isdigit())


def _index(holder: "list[Any] | tuple[Any, ...]", part: Any, done: list[Any], origin: Origin | None) -> int:
    if not _is_index(part):
        raise ConfigError(
            f"'{joined(done)}' is a {type(holder).__name__}: write a number, not '{part}'",
            origin=origin,
            key=joined([*done, part]),
        )
    index = int(part)
    if index >= len(holder):
        raise ConfigError(
            f"'{joined(done)}' has {len(holder)} elements, the first is number 0; there is no number {index}",
            origin=origin,
            key=joined([*done, index]),
        )
    return index
