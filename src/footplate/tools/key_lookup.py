"""Finds keys in a config, and suggests similar ones for keys that do not exist."""

from typing import Any

from footplate.config import Config, ConfigDict
from footplate.config.key_paths import next_step, split_path
from footplate.error_context import join_path, origin_of, walk_paths
from footplate.errors import ConfigError, ConfigKeyError, Origin
from footplate.messages import list_names, nearest

_MAX_LISTED = 12


def find_value(config: ConfigDict, path: str) -> tuple[Any, Any, Any]:
    """Follows a key path, and returns (container, key, value) for its last key.

    Raises:
        ConfigKeyError: The key does not exist. The message suggests paths with the same ending, or a similar key in the
            innermost dict that exists.
        ConfigError: The path contains an index past the end of a list, or a key of a scalar.
    """
    holder: Any = config
    parts: list[Any] = split_path(path)
    done: list[Any] = []
    while True:
        key, parts = next_step(holder, parts, done)
        done.append(key)
        if isinstance(holder, ConfigDict) and key not in holder:
            raise _missing_key(config, path, holder, done)
        if not parts:
            return holder, key, holder[key]
        holder = holder[key]


def paths_ending(config: Any, path: str) -> list[str]:
    """Returns the key paths in `config` that end with `path`, shortest first.

    Raises:
        ConfigError: A part of the path is empty.

    Example:
        >>> paths_ending(ConfigDict(optim_wrapper=dict(optimizer=dict(lr=0.1))), "optimizer.lr")
        ['optim_wrapper.optimizer.lr']
    """
    ending = split_path(path)
    found = [each for each, _ in walk_paths(config) if [str(part) for part in each[-len(ending) :]] == ending]
    return [join_path(each) for each in sorted(found, key=len)]


def paths_at(config: Config, path: str, origin: Origin) -> list[str]:
    """Returns the key paths in `config` that end with `path` and whose values were set at `origin`, shortest first."""
    paths = paths_ending(config._cfg_dict, path)
    return [each for each in paths if origin_of(*find_value(config._cfg_dict, each)[:2]) == origin]


def has_key(config: Config, path: str) -> bool:
    """Checks whether a config has the key `path`."""
    try:
        find_value(config._cfg_dict, path)
    except ConfigError:
        return False
    return True


def _missing_key(config: ConfigDict, path: str, holder: ConfigDict, missing: list[Any]) -> ConfigKeyError:
    """Returns the error for a key path that does not exist.

    `missing` is the beginning of `path`, up to and including the first missing key. `holder` is the dict that lacks it.
    """
    *done, key = missing
    near = nearest(key, map(str, holder))
    suggestions = paths_ending(config, path) or ([join_path([*done, near])] if near else [])
    notes = [f"existing keys: {list_names(holder, _MAX_LISTED) or 'none'}"]
    if suggestions:
        notes = [f"or: {list_names(suggestions[1:], _MAX_LISTED)}"] if len(suggestions) > 1 else []
    return ConfigKeyError(
        f"'{join_path(done)}' has no key '{key}'" if done else f"the config has no key '{key}'",
        origin=origin_of(holder) if done else None,
        key=join_path(missing),
        suggestion=suggestions[0] if suggestions else None,
        notes=notes,
    )
