"""Adds config locations and notes to exceptions, and finds the line of user code that raised them.

A check reports keys relative to the value it was given; its caller adds the name of the value with `at_key`. Functions
that build or apply something from a section add the name of the section themselves.

| to | use |
|---|---|
| add the name of a value to the keys of errors raised in a block | `at_key` |
| do the same in an `except` block | `FootplateError.prepend_key` |
| add keys, file and line to the errors of a section that a registry builds | `building` |
| prepend the key of the hook or metric that raised an error | `HookList.prepend_key`, `Evaluator._prepend_key` |
| add the file and line that set the key of errors raised in a block | `located` |
| do the same in an `except` block | `locate` |
| get the file and line of a value, to raise an error | `origin_of`, or `origin_at` for a nested value |
| start a warning with the file and line | `location_prefix` |
| keep the files and lines of keys if a section is copied or completed | `with_origins`, `with_defaults` |
"""

import os
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from footplate.errors import PACKAGES, CheckpointError, FootplateError, Origin, shown_path
from footplate.messages import list_names, nearest

_STEP = re.compile(r"'([^']*)'|([^.\[\]']+)|\[(\d+)\]")  # a quoted key, a key, an index; see `join_path`
_MAX_CHANGES = 3
WEIGHTS_ALONE = "Use load_from without resume to start over with the weights alone."
_MAX_COMPARED = 10_000  # limits the time to find a similar name: about 10 microseconds per name in the folder
NOT_USER_CODE = (PACKAGES, *{os.path.join(path, "") for path in sysconfig.get_paths().values()}, "<")


@contextmanager
def at_key(prefix: str) -> Iterator[None]:
    """Prepends `prefix` to the key path of each FootplateError raised in the block."""
    try:
        yield
    except FootplateError as error:
        error.prepend_key(prefix)
        raise


@contextmanager
def located(source: object) -> Iterator[None]:
    """Adds the config location of the error's key to each FootplateError raised in the block; see `locate`."""
    try:
        yield
    except FootplateError as error:
        locate(error, source)
        raise


@contextmanager
def building(section: object) -> Iterator[None]:
    """Adds the key path, file and line to FootplateErrors raised while the object that a section describes is built.

    An error's key is relative to the error's `failed_section`, whose key in `section` is prepended. Example: in
    `model = dict(type="A", neck=dict(type="B", dept=4))`, A builds its neck, and B has no argument `dept`.

    | after | `error.key` | `error.failed_section` |
    |---|---|---|
    | `check_arguments` for B | `dept` | None |
    | `building` for B | `dept` | the neck |
    | `building` for A, which finds the neck in the model section | `neck.dept` | the model section |
    | `at_key("model")` in `build_model` | `model.neck.dept` | None |

    If A builds its neck in `at_key("neck")`, `building` for A gets the key `neck.dept` and no section, and adds no key.
    """
    try:
        yield
    except FootplateError as error:
        error.prepend_key(find_section(section, error.failed_section))
        if error.origin is None:
            error.origin = origin_at(section, error.key or "type")
            error.notes = (*error.notes, *describe_changes(section))
        error.failed_section = section
        raise


@contextmanager
def restoring(part: str) -> Iterator[None]:
    """Converts an exception raised in the block to a CheckpointError, which states that `part` cannot be restored.

    Does not convert FootplateErrors. A CheckpointError without advice gets the advice to start over.
    """
    try:
        yield
    except FootplateError as error:
        if isinstance(error, CheckpointError):
            error.notes = error.notes or (WEIGHTS_ALONE,)
        raise
    except Exception as error:
        message = f"cannot restore '{part}' from the checkpoint: {type(error).__name__}: {error}"
        raise CheckpointError(message, notes=[WEIGHTS_ALONE]) from error


def locate(error: FootplateError, source: object) -> None:
    """Sets an error's origin to the file and line where the config `source` sets the error's key.

    Does nothing if the error already has an origin, or if the config lacks the first part of the key path.
    """
    first = next((quoted or name for quoted, name, _ in _STEP.findall(error.key)), None)
    # For a key that the config does not have, origin_at would return the origin of the first base.
    if error.origin is None and hasattr(source, "__contains__") and first in source:
        error.origin = origin_at(source, error.key)


def origin_at(source: object, path: str | Sequence[Any]) -> Origin | None:
    """Returns the origin of the value at a key path, or of its nearest ancestor with a known origin.

    Returns None if no origin is known.

    Args:
        source: A config.
        path: The key path as a string, or as a sequence of keys and indices. Keys in a sequence may contain dots.
    """
    origin = None
    here = source
    found = _STEP.findall(path) if isinstance(path, str) else ()
    steps = [quoted or name or int(index) for quoted, name, index in found] if isinstance(path, str) else path
    for step in steps:
        origins = getattr(here, "_origins", {})
        # For a merged dict, its own `origins[None]` is the base, and its parent's `origins[step]` is the last change.
        origin = origins.get(step) or origin or origins.get(None)
        try:
            here = here[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(step, int):
            origin = origin_of(here, "type") or origin
    return origin


def origin_of(mapping: object, key: object = None) -> Origin | None:
    """Returns the origin of `mapping[key]`, or of the mapping itself if `key` is None or has no known origin.

    Returns None if neither origin is known.
    """
    origins: Mapping[Any, Origin] = getattr(mapping, "_origins", {})
    return origins.get(key) or origins.get(None)


def location_prefix(origin: Origin | None) -> str:
    """Returns "file:line: ", with which a warning starts, or "" if the origin is unknown."""
    return f"{origin}: " if origin else ""


def find_section(cfg: object, section: object) -> str:
    """Returns the key path of `section` in `cfg`, or "" if `cfg` does not contain it.

    If `section` is a copy, finds the original by its origin, unless several sections have the same origin.
    """
    nested = [(path, value) for path, value in walk_paths(cfg) if isinstance(value, Mapping)]
    place = origin_of(section)
    paths = [path for path, value in nested if value is section]
    if not paths and place is not None:
        paths = [path for path, value in nested if origin_of(value) == place]
    return join_path(paths[0]) if len(paths) == 1 else ""


def join_path(parts: Sequence[Any]) -> str:
    """Joins the parts of a key path into a string.

    Example:
        >>> join_path(["custom_keys", "layers.0", "lr"]), join_path(["pipeline", 0])
        ("custom_keys.'layers.0'.lr", 'pipeline[0]')
    """
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            quoted = f"'{part}'" if "." in str(part) else str(part)
            text += f".{quoted}" if text else quoted
    return text


def walk_paths(value: Any, path: Sequence[Any] = ()) -> Iterator[tuple[Sequence[Any], Any]]:
    """Yields the path and value of everything nested in `value`. Dicts and lists come before their items.

    `path` is the path of `value` itself.
    """
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = dict.items(value)
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    for key, item in items:
        yield (*path, key), item
        yield from walk_paths(item, (*path, key))


def explain_base(section: object, key: str) -> list[str]:
    """Returns a note if `key` was set for another `type`, which a later config replaced. Otherwise, an empty list."""
    home, origin, changed = (origin_of(section, name) or Origin("", 0) for name in (None, key, "type"))
    if changed.file == home.file or origin.file != home.file:
        return []
    return [f"{origin} sets it for another type. To drop the base's settings, add _delete_=True."]


def describe_changes(section: object, key: str = "") -> list[str]:
    """Returns a note that lists the values in a section that were set in a different file than the section itself.

    The note is returned in a list, which is empty if there are no such values. `key` is the section's key path.
    """
    changes = [f"{path} ({origin})" for path, origin in _changes_in(section, key)]
    return [f"changed from the base: {list_names(changes, _MAX_CHANGES)}"] if changes else []


def _changes_in(section: object, key: str) -> Iterator[tuple[str, Origin]]:
    """Yields the key path and origin of each value that was set in a different file than its section."""
    home = origin_of(section)
    if home is None or not isinstance(section, Mapping):
        return
    for name, value in section.items():
        path = f"{key}.{name}" if key else str(name)
        origin = origin_of(section, name)
        inner = origin_of(value)
        if inner is not None and inner.file == home.file:
            yield from _changes_in(value, path)
        elif origin is not None and origin.file != home.file:
            yield path, origin


def explain_missing_path(path: str) -> list[str]:
    """Returns notes about a path that does not exist.

    If `path` is relative, one note contains the absolute path. Another note contains the first missing folder or file
    and, if one exists, a similar name in the same folder.
    """
    tried = folder = os.path.abspath(path)
    lines = [] if os.path.isabs(path) else [f"tried {tried}; relative paths are resolved against the current folder"]
    name = ""
    while not os.path.exists(folder):
        folder, name = os.path.split(folder)
    if not name:
        return lines
    is_folder = os.path.isdir(folder)
    near = nearest(name, os.listdir(folder)[:_MAX_COMPARED] if is_folder and os.access(folder, os.R_OK) else [])
    place = f"{'the folder ' if is_folder else ''}'{folder}'"
    return [*lines, f"{place} has no '{name}'" + (f"; did you mean '{near}'?" if near else "")]


class _DictWithOrigins(dict[str, Any]):
    """A dict that records the file and line of each entry."""

    _origins: Mapping[Any, Origin]


def with_origins(settings: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Returns a copy of `settings` with the origins that the same keys have in `source`."""
    copied = _DictWithOrigins(settings)
    copied._origins = getattr(source, "_origins", {})
    return copied


def with_defaults(section: Mapping[str, Any] | None, /, **defaults: Any) -> dict[str, Any]:
    """Adds defaults for missing keys to a config section. Keys keep their origins, for error messages."""
    return with_origins({**defaults, **(section or {})}, section)


def add_note(error: BaseException, note: str) -> None:
    """Adds a note to an exception. Does nothing if an exception of other code already has the note.

    In a FootplateError, the note comes first, since its message is cut off after `errors._MAX_LINES` lines.
    """
    if isinstance(error, FootplateError):
        error.notes = (note, *error.notes)
    elif note not in (notes := getattr(error, "__notes__", [])):
        vars(error)["__notes__"] = [*notes, note]  # add_note() needs Python 3.11


def innermost_user_line(stack: Iterable[tuple[FrameType, int]]) -> str:
    """Returns the innermost line of user code in a stack, as "file:line".

    If the stack contains no user code, returns the innermost line of footplate's own code, or "" if none exists.

    Args:
        stack: Frames with their line numbers, outermost frame first.
    """
    own_line = user_line = ""
    for frame, number in stack:
        file = frame.f_code.co_filename
        if not file.startswith(NOT_USER_CODE):
            user_line = f"{file}:{number}"
        elif file.startswith(PACKAGES):
            own_line = f"{file}:{number}"
    return shown_path(user_line or own_line)
