"""Detects changes to config variables that have no effect, because other keys already use the previous value."""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from footplate.config.config_dict import ConfigDict, KeyOrigin, is_variable, readers_of, value_history
from footplate.error_context import join_path, origin_at, origin_of, walk_paths
from footplate.messages import list_names

if TYPE_CHECKING:
    from footplate.config.config import Config

_MAX_NAMED = 6


class UnusedChange(NamedTuple):
    """A change to a config variable that has no effect.

    Attributes:
        key: The key path of the changed value.
        origin: Where the change was made.
        was_read: Whether the config uses the previous value. If False, the config does not use the variable at all, but
            the user's own code might.
        unchanged: The key paths that still have the previous value.
    """

    key: str
    origin: KeyOrigin
    was_read: bool
    unchanged: list[str]

    def __str__(self) -> str:
        problem = f"{self.origin}: '{self.key}' has no effect"
        if not self.was_read:
            return f"{problem} unless your own code reads it: neither the config nor footplate uses it"
        advice = f"; set {list_names(self.unchanged, _MAX_NAMED)} instead" if self.unchanged else ""
        if self.origin.is_override and (source := self.origin.replaced) and source.origin is not None:
            advice += f", or change the variable in {source.origin}"
        return f"{problem}, because other keys already use the previous value{advice}"


def find_unused_changes(cfg: "Config", known: Collection[str]) -> list[UnusedChange]:
    """Returns the changes to config variables that have no effect, at most one per variable.

    Suppose a base contains `optimizer = dict(lr=0.1)` and `optim_wrapper = dict(optimizer=optimizer)`. A config that
    inherits from this base has two separate dicts: changing the first one, in the config or by an override, does not
    change the second. `known` contains the keys that a run reads; all other top-level keys are variables.
    """
    top = cfg._cfg_dict
    changes = []
    for name in top:
        if name in known:
            continue
        was_read = is_variable(top, name)
        variable = origin_of(top, name)
        is_late = was_read and not getattr(variable, "readers", ())
        for path, previous, origin in _changes(top, name, (name,)):
            if is_late or origin.is_override:
                changes.append(UnusedChange(join_path(path), origin, was_read, _readers(top, known, path, previous)))
                break
    return changes


def _changes(holder: Any, key: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, KeyOrigin]]:
    """Yields the key path, previous value and origin of each changed value at or below `path`."""
    value = holder[key]
    if isinstance(value, (dict, list, tuple)):
        for inner in value if isinstance(value, dict) else range(len(value)):
            yield from _changes(value, inner, (*path, inner))
    origin = origin_of(holder, key)
    if isinstance(value, dict) or not isinstance(origin, KeyOrigin) or origin.replaced is None:
        return
    if repr(origin.replaced.value) != repr(value):  # arrays cannot be compared
        yield path, origin.replaced.value, origin


def _readers(top: ConfigDict, known: Collection[str], path: Sequence[Any], value: Any) -> list[str]:
    """Returns the paths of keys below the `known` top-level keys computed from a variable.

    `path` is the path of a value in the variable, and `value` is its previous value.
    """
    items = dict(walk_paths(top))
    variables, paths = [path[0]], []
    for variable in variables:
        readers = readers_of(origin_of(top, variable))
        for key, item in items.items():
            inner = (*key, *path[1:])
            if not any((key[-1], past.origin) in readers for past in value_history(item, origin_at(top, key))):
                continue
            if key[0] in known and (inner in items or repr(item) == repr(value)):
                paths.append(inner if inner in items else key)
            elif key[0] not in (*known, *variables):
                variables.append(key[0])
    return [join_path(key) for key in dict.fromkeys(paths)]
