"""Adds the location in the config, and notes, to errors that pass through."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from footplate.errors import FootplateError, Origin

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@contextmanager
def at_key(prefix: str) -> Iterator[None]:
    """Prepends `prefix` to the key path of errors raised in the block."""
    try:
        yield
    except FootplateError as error:
        error.within(prefix)
        raise


@contextmanager
def located(source: object) -> Iterator[None]:
    """Adds to errors raised in the block where `source`, a config, sets the value at their key path."""
    try:
        yield
    except FootplateError as error:
        error.origin = error.origin or origin_at(source, error.key)
        raise


def origin_at(source: object, path: str) -> Origin | None:
    """Returns where the value at a key path was written, or else its closest parent with a known origin."""
    origin, here = None, source
    for name, index in _STEP.findall(path):
        step = name or int(index)
        origin = origin_of(here, step) or origin
        try:
            here = here[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
    return origin


def origin_of(mapping: object, key: object = None) -> Origin | None:
    """Returns where `mapping[key]` was written, or the mapping itself if `key` is None; None if unknown."""
    origins = getattr(mapping, "_origins", None)
    if not isinstance(origins, Mapping):
        return None
    origin = origins.get(key) or origins.get(None)
    return origin if isinstance(origin, Origin) else None


class _DictWithOrigins(dict[str, Any]):
    """A dict that records where its entries were written."""

    _origins: Mapping[Any, Origin]


def with_origins(settings: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Returns a copy of `settings` whose entries have the origins of those in `source`."""
    copied = _DictWithOrigins(settings)
    copied._origins = getattr(source, "_origins", {})
    return copied


def add_note(error: BaseException, note: str) -> None:
    """Adds a note to an exception. The note is always shown: earlier notes are dropped if the message gets too long."""
    if not isinstance(error, FootplateError):
        vars(error)["__notes__"] = [*getattr(error, "__notes__", ()), note]  # add_note() needs Python 3.11
        return
    kept = error.notes
    error.notes = (*kept, note)
    while kept and not str(error).endswith(note):
        kept = kept[:-1]
        error.notes = (*kept, note)
