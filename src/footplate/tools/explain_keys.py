"""Shows where the keys of a config were set."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from footplate.config import Config, ConfigDict
from footplate.config.config_dict import KeyOrigin, Replaced, value_history
from footplate.config.formats import write_python, write_value
from footplate.config.key_paths import next_step, split_path
from footplate.error_context import join_path, origin_of
from footplate.errors import ConfigError, Origin, shown_path
from footplate.messages import indentation, wrap_line
from footplate.tools.key_lookup import find_value

_INDENT = "    "
_WIDTH = 80  # columns of a line
_LEAST_WIDTH = 20  # columns of a shortened value


class Line(NamedTuple):
    """One line of a resolved config."""

    text: str  # the line, with its indentation; the value of a changed key may take several lines
    origin: Origin | None = None  # where the key was written
    before: Sequence[Replaced] = ()  # the earlier values of the key, the latest first


def source_files(cfg: Config) -> list[str]:
    """Returns the config's own file and all files that set a value, including values that were replaced later."""
    own = [str(cfg.filename)] if cfg.filename else []
    return list(dict.fromkeys([*own, *_files_of(_config_lines(cfg))]))


def _files_of(lines: Iterable[Line]) -> list[str]:
    origins = (origin for line in lines for origin in (line.origin, *(past.origin for past in line.before)))
    return [origin.file for origin in origins if origin]


def explain_config(cfg: Config) -> str:
    """Formats the resolved config with one value per line, and the location and earlier values of each key.

    Shortens only values that were never changed. Lines are at most 80 columns wide, except for longer texts and paths.
    Does not import the modules that the config uses.
    """
    lines = list(_config_lines(cfg))
    # Show paths relative to the common folder of the files, and recipes by the names that `_base_` accepts.
    far = {file for file in _files_of(lines) if os.path.isabs(file) and "::" not in shown_path(file)}
    folder = os.path.commonpath(map(os.path.dirname, far)) if far else ""

    def shorten(origin: Origin | None) -> str:
        if origin is None:
            return ""
        file = os.path.relpath(origin.file, folder) if origin.file in far else shown_path(origin.file)
        return str(Origin(file, origin.line))

    notes = [
        [shorten(line.origin), *(f"was {write_value(past.value)}, {shorten(past.origin)}" for past in line.before)]
        for line in lines
    ]
    shown = [f"# files below {folder}"] if folder else []
    shown += _annotated([(line.text, own if any(own) else []) for line, own in zip(lines, notes, strict=True)], 4)
    return "\n".join(shown) + "\n"


def _annotated(lines: Sequence[tuple[str, Sequence[str]]], gap: int) -> list[str]:
    """Adds notes to lines, in a column `gap` columns after the longest text that fits on a line with its first note.

    If a line would be too wide, each of its notes is on lines of its own.
    """
    sizes = [(len(text) + gap, len(notes[0]) + 2) for text, notes in lines if notes]
    fitting = [size for size in sizes if sum(size) <= _WIDTH]
    texts, firsts = (max(lengths) for lengths in zip(*fitting, strict=True)) if fitting else (0, 0)
    column = min(texts, _WIDTH - firsts)
    shown = []
    for text, notes in lines:
        note = f"# {'  '.join(notes)}"
        written = [f"{text}  ".ljust(column) + note, f"{text}  {note}"] if notes else [text]
        if short := [line for line in written if len(line) <= _WIDTH or not notes]:
            shown.append(short[0])
            continue
        indent = " " * (indentation(text) + len(_INDENT)) + "# "
        wrapped = chain(*(wrap_line(indent + note, _WIDTH, indent, len(indent) + 2).split("\n") for note in notes))
        shown += [text, *(indent + part[len(indent) :] for part in wrapped)]  # each line is a comment
    return shown


def explain_key(cfg: Config, path: str) -> str:
    """Formats the value of a key and its history, from the first base config to the last override.

    For a dict or list, also lists the overrides that changed its items.

    Raises:
        ConfigKeyError: There is no such key.
    """
    _, _, value = find_value(cfg._cfg_dict, path)
    steps = history(cfg, path)
    written = write_python({"value": value})[len("value = ") :]
    notes = [str(step.origin) if step.origin else "" for step in steps]
    if len(steps) == 1:  # the value is already shown
        lines = [f"  # set at {note}" for note in notes if note]
    else:
        marks = ["     ", *["  -> "] * (len(steps) - 1)]
        texts = [
            wrap_line(mark + write_value(step.value), _WIDTH, mark, 5) for mark, step in zip(marks, steps, strict=True)
        ]
        lines = _annotated([(text, [note] if note else []) for text, note in zip(texts, notes, strict=True)], 2)
    nested = [line.origin for line in _lines(value, "", "", None)]
    if overrides := {origin.file for origin in nested if isinstance(origin, KeyOrigin) and origin.is_override}:
        lines.append(f"  # items changed by {' and '.join(sorted(overrides))}")
    return f"{path} = {written}" + "".join(f"{line}\n" for line in lines)


def keys_as_data(cfg: Config, path: str = "") -> dict[str, Any]:
    """Returns a dict that maps key paths to their values and the history of each value, latest first.

    Contains the keys at and below `path`. The keys of a dict are listed separately; a list counts as one value.

    Raises:
        ConfigKeyError: There is no such key.
    """
    value = find_value(cfg._cfg_dict, path)[2] if path else cfg._cfg_dict
    if not isinstance(value, ConfigDict) or not value:
        steps = [
            {
                "value": step.value,
                **({"file": step.origin.file, "line": step.origin.line or None} if step.origin else {}),
            }
            for step in reversed(history(cfg, path))
        ]
        return {path: {"value": value, "history": steps}}
    keys: dict[str, Any] = {}
    for key in value:
        keys |= keys_as_data(cfg, join_path([*(split_path(path) if path else ()), key]))
    return keys


def history(cfg: Config, path: str) -> list[Replaced]:
    """Returns all past and current values of a key with their locations, starting with the first base config.

    Includes values in a dict that was later removed by `_delete_` or replaced as a whole.
    """
    steps = {(past.origin, write_value(past.value)): past for past in _past(cfg._cfg_dict, split_path(path))}
    return list(steps.values())


def _past(holder: Any, parts: list[Any]) -> Iterator[Replaced]:
    try:
        key, rest = next_step(holder, parts, [])
        value = holder[key]
    except ConfigError:  # an earlier value without this key
        return
    for link in value_history(value, origin_of(holder, key)):
        if rest:
            for below in _past(link.value, rest):
                yield below if below.origin else Replaced(below.value, link.origin)
        else:
            yield link


def _config_lines(cfg: Config) -> Iterator[Line]:
    for name, value in cfg._cfg_dict.items():
        yield from _lines(value, "", f"{name} = ", origin_of(cfg._cfg_dict, name), "")


def _lines(value: Any, indent: str, key: str, origin: Origin | None, end: str = ",") -> Iterator[Line]:
    """Yields the lines of a value. Dicts and lists of dicts are formatted with one item per line."""
    before = value_history(value, origin)[-2::-1]
    if isinstance(value, dict) and value:
        yield Line(f"{indent}{key}dict(")
        for name, item in value.items():
            yield from _lines(item, indent + _INDENT, f"{name}=", origin_of(value, name))
        yield Line(f"{indent}){end}")
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        opening, closing = "[]" if isinstance(value, list) else "()"
        yield Line(f"{indent}{key}{opening}", origin, before)
        for item in value:
            yield from _lines(item, indent + _INDENT, "", None)
        yield Line(f"{indent}{closing}{end}")
    elif before or len(f"{indent}{key}{write_value(value)}{end}") <= _WIDTH:
        written = write_value(value)
        if len(f"{indent}{key}{written}{end}") > _WIDTH:
            written = write_python({"value": value})[len("value = ") :].rstrip().replace("\n", f"\n{indent}")
        yield Line(f"{indent}{key}{written}{end}", origin, before)
    else:
        yield Line(f"{indent}{key}{brief(value, max(_WIDTH - len(indent + key + end), _LEAST_WIDTH))}{end}", origin)


def brief(value: Any, width: int = 72) -> str:
    """Formats a value as config code, truncated to `width` characters."""
    text = write_value(value)
    return text if len(text) <= width else f"{text[: width - 4]} ..."
