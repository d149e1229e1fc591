"""Computes what a file must write on top of its bases so that it resolves to an expected config."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DELETE = "_delete_"
_ABSENT = object()

KeyPath = tuple[str, ...]
IsWritten = Callable[[KeyPath], bool]
"""Checks whether a file itself writes the value at a key path, even if it equals the inherited value."""


def config_difference(
    inherited: Mapping[str, Any], expected: Mapping[str, Any], keys: Iterable[str], is_written: IsWritten | None = None
) -> dict[str, Any]:
    """Returns what to write on top of the inherited config.

    Args:
        inherited: The merged base configs.
        expected: The config that the file must resolve to.
        keys: The top-level keys to compare.
        is_written: Selects values to write although they are inherited.

    Returns:
        The values by key. A dict is merged into the inherited one and has `_delete_` if inherited keys must go. None
        removes an inherited key.
    """
    is_written = is_written or (lambda path: False)
    difference: dict[str, Any] = {}
    for key in keys:
        if key not in expected:
            if inherited.get(key) is not None:
                difference[key] = None
        elif _must_write(inherited, expected, key, (), is_written):
            difference[key] = _override(inherited.get(key, _ABSENT), expected[key], (key,), is_written)
    return difference


def _must_write(
    inherited: Mapping[str, Any], expected: Mapping[str, Any], key: str, parents: KeyPath, is_written: IsWritten
) -> bool:
    if key not in inherited or not is_identical(inherited[key], expected[key]):
        return True
    return _is_any_written(expected[key], (*parents, key), is_written)


def _is_any_written(value: Any, path: KeyPath, is_written: IsWritten) -> bool:
    """Checks whether a file writes the value at a path or any entry of it."""
    if is_written(path) or (isinstance(value, Mapping) and is_written((*path, DELETE))):
        return True
    return isinstance(value, Mapping) and any(
        _is_any_written(value[key], (*path, str(key)), is_written) for key in value
    )


def _override(inherited: Any, expected: Any, path: KeyPath, is_written: IsWritten) -> Any:
    """Returns the value that, merged into `inherited`, results in `expected`."""
    if inherited is _ABSENT or not isinstance(expected, Mapping):
        return expected
    has_extra_keys = not isinstance(inherited, Mapping) or any(key not in expected for key in inherited)
    if has_extra_keys or is_written((*path, DELETE)):
        return {DELETE: True, **expected}
    if is_written(path):
        return expected
    return {
        key: _override(inherited.get(key, _ABSENT), value, (*path, str(key)), is_written)
        for key, value in expected.items()
        if _must_write(inherited, expected, key, path, is_written)
    }


def is_identical(first: Any, second: Any) -> bool:
    """Checks whether two values are equal and of the same type: a tuple differs from a list, and True from 1."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(is_identical(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        pairs = zip(first, second, strict=False)
        return type(first) is type(second) and len(first) == len(second) and all(is_identical(a, b) for a, b in pairs)
    return type(first) is type(second) and bool(first == second or (first != first and second != second))


def differing_keys(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Returns the top-level keys in which two configs differ; None counts as absent."""
    keys = [*expected, *(key for key in found if key not in expected)]
    return [key for key in keys if not is_identical(found.get(key), expected.get(key))]
