"""Computes what a file has to write, on top of its bases, to yield a wanted config."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DELETE = "_delete_"
_ABSENT = object()

KeyPath = tuple[str, ...]
IsWritten = Callable[[KeyPath], bool]
"""Checks whether a file itself writes the value at a key path, even if it inherits the same value."""


def difference(
    inherited: Mapping[str, Any], wanted: Mapping[str, Any], keys: Iterable[str], says: IsWritten | None = None
) -> dict[str, Any]:
    """Returns what to write on top of what is inherited.

    Args:
        inherited: The merged bases.
        wanted: What is to come out.
        keys: The top-level keys to look at.
        says: What to write though it is inherited.

    Returns:
        Values by key: a dict holds what is to be merged into the inherited one, with `_delete_` where something
        inherited has to go; None stands for a key that is not wanted.
    """
    says = says or _nothing
    written: dict[str, Any] = {}
    for key in keys:
        if key not in wanted:
            if inherited.get(key) is not None:
                written[key] = None
        elif _is_written(inherited, wanted, key, (), says):
            written[key] = _on_top(inherited.get(key, _ABSENT), wanted[key], (key,), says)
    return written


def _nothing(path: KeyPath) -> bool:
    return False


def _is_written(inherited: Mapping[str, Any], wanted: Mapping[str, Any], key: str, above: KeyPath, says: IsWritten) -> bool:
    if key not in inherited or not same(inherited[key], wanted[key]):
        return True
    return _says_within(wanted[key], (*above, key), says)


def _says_within(value: Any, path: KeyPath, says: IsWritten) -> bool:
    """Checks whether a file writes a value or an entry of it."""
    if says(path) or (isinstance(value, Mapping) and says((*path, DELETE))):
        return True
    return isinstance(value, Mapping) and any(_says_within(value[key], (*path, str(key)), says) for key in value)


def _on_top(inherited: Any, wanted: Any, path: KeyPath, says: IsWritten) -> Any:
    if inherited is _ABSENT or not isinstance(wanted, Mapping):
        return wanted
    if not isinstance(inherited, Mapping) or any(key not in wanted for key in inherited) or says((*path, DELETE)):
        return {DELETE: True, **wanted}
    if says(path):
        return wanted
    changed = {key: value for key, value in wanted.items() if _is_written(inherited, wanted, key, path, says)}
    return {key: _on_top(inherited.get(key, _ABSENT), value, (*path, str(key)), says) for key, value in changed.items()}


def same(first: Any, second: Any) -> bool:
    """Checks whether two values are equal and of one type: a tuple differs from a list, True from 1."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        pairs = zip(first, second, strict=False)
        return type(first) is type(second) and len(first) == len(second) and all(same(a, b) for a, b in pairs)
    return type(first) is type(second) and bool(first == second or (first != first and second != second))


def differing_keys(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Returns the top-level keys in which two configs differ; a key that is None may as well be absent."""
    keys = [*wanted, *(key for key in found if key not in wanted)]
    return [key for key in keys if not same(found.get(key), wanted.get(key))]
