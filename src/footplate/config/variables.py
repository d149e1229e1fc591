"""Detects variables that are changed after the lines that read them have run."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from footplate.config.mapping import ConfigDict
from footplate.config.merging import find, joined, paths_ending
from footplate.config.origins import KeyOrigin, chain
from footplate.error_context import origin_of
from footplate.messages import list_names

if TYPE_CHECKING:
    from footplate.config.config import Config

_MOST_NAMED = 3


def without_effect(cfg: "Config", known: Collection[str]) -> list[str]:
    """Returns a warning for each variable that was changed too late, with the keys that keep the old value.

    Suppose a base contains `optimizer = dict(lr=0.1)` and `optim_wrapper = dict(optimizer=optimizer)`. A config that
    inherits from it has two separate dicts. Changing the first one, in the config or by an override, does not change
    the second.

    Args:
        cfg: The config, with its overrides.
        known: The keys that a run reads; all others are variables.

    Returns:
        One sentence per variable.
    """
    top = cfg._cfg_dict
    names = [name for name in top if isinstance(name, str) and name not in known]
    found = [(name, _changed_late(top, name)) for name in names]
    return [_sentence(top, name, path, known) for name, path in found if path is not None]


def unread_overrides(cfg: "Config", known: Collection[str]) -> list[str]:
    """Returns a warning for each variable that an override changed and no line of the config read.

    Args:
        cfg: The config, with its overrides.
        known: The keys that a run reads; all others are variables.

    Returns:
        One sentence per variable.
    """
    origins = {name: cfg._cfg_dict._origins.get(name) for name in cfg._cfg_dict if name not in known}
    return [
        f"{origin}: '{name}' has no effect, unless code of your own reads it: no part of a run does"
        for name, origin in origins.items()
        if isinstance(origin, KeyOrigin) and not origin.line and origin.replaced is not None and not origin.read
    ]


def _changed_late(top: ConfigDict, name: str) -> list[Any] | None:
    """Returns the key path of a change made after the lines that read the variable ran, or None."""
    origin = top._origins.get(name)
    if not isinstance(origin, KeyOrigin) or not origin.read:
        return None
    changes = [path for path in _changes(top, [name]) if len(path) > 1 or not isinstance(top[name], ConfigDict)]
    if not origin.read_here:
        return changes[0] if changes else None
    return next((path for path in changes if not _origin_at(top, path).line or _left_behind(top, path)), None)


def _changes(holder: ConfigDict, path: list[Any]) -> Iterator[list[Any]]:
    """Yields the key paths at and below `path` whose value was replaced by a different one."""
    key = path[-1]
    origin, value = holder._origins.get(key), dict.__getitem__(holder, key)
    if isinstance(origin, KeyOrigin) and origin.replaced is not None and chain(value, origin)[-2].value != value:
        yield path
    if isinstance(value, ConfigDict):
        for inner in value:
            yield from _changes(value, [*path, inner])


def _left_behind(top: ConfigDict, path: list[Any]) -> bool:
    """Checks whether another key still has the old value from the same line of the base, and none has the new one."""
    written = joined(path)
    others = [find(top, each)[:2] for each in paths_ending(top, written) if each != written] if len(path) > 1 else []
    places = [origin_of(holder, key) for holder, key in others]
    now = _origin_at(top, path)
    earlier = [link.origin for link in chain(None, now)[:-1]]
    return now not in places and any(each is not None and each in places for each in earlier)


def _origin_at(top: ConfigDict, path: list[Any]) -> KeyOrigin:
    holder: Any = top
    for key in path[:-1]:
        holder = holder[key]
    origin: KeyOrigin = holder._origins[path[-1]]
    return origin


def _sentence(top: ConfigDict, name: str, path: list[Any], known: Collection[str]) -> str:
    written, origin = joined(path), _origin_at(top, path)
    if len(path) > 1:
        reached = [each for each in paths_ending(top, written) if each != written]
    else:
        reached = _holding(top, name, chain(top[name], origin)[-2].value, known)
    instead = f"; --set {reached[0]}=... reaches it" if reached else ""
    if len(reached) > 1:
        instead = f"; it is held by {list_names(reached, _MOST_NAMED)}, which --set reaches"
    return f"{origin}: '{written}' has no effect: what read '{name}' keeps the value from before{instead}"


def _holding(top: ConfigDict, name: str, value: Any, known: Collection[str]) -> list[str]:
    """Returns the keys of a run that hold a variable's old value: those with its name, or else all of them.

    Without a key of the same name, returns no keys for common values such as 0, 1 and True, which match by chance.
    """
    held = [path for key in top if key in known for path, found in _leaves(top[key], key) if _is_same(found, value)]
    named = [path for path in held if path.rpartition(".")[2] == name]
    is_telling = not isinstance(value, bool) and value is not None and value not in (0, 1, "")
    return named or (held if is_telling else [])


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields every value below a key path that is not a dict; yields lists as well as their items."""
    if isinstance(value, ConfigDict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
        return
    yield path, value
    if isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{path}[{place}]")
