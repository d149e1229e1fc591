"""Shows where the keys of a config were set."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from footplate.config import Config, ConfigDict
from footplate.config.config_dict import KeyOrigin, Replaced, value_history
from footplate.config.formats import write_python, write_value
from footplate.config.key_paths import next_step, split_path
from footplate.error_context import join_path, origin_of
from footplate.errors import ConfigError, Origin, shown_path
from footplate.tools.key_lookup import find_value

_INDENT = "    "
_COLUMN = 64


class Line(NamedTuple):
    """One line of a resolved config."""

    text: str  # the line, with its indentation
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

    width = min(_COLUMN, max((len(line.text) for line in lines if line.origin), default=0) + 2)
    texts = [f"# files below {folder}"] if folder else []
    for line in lines:
        note = shorten(line.origin)
        for replaced in line.before:
            note += f"  was {brief(replaced.value)}, {shorten(replaced.origin)}"
        texts.append(f"{line.text.ljust(width)}  # {note}" if note else line.text)
    return "\n".join(texts) + "\n"


def explain_key(cfg: Config, path: str) -> str:
    """Formats the value of a key and its history, from the first base config to the last override.

    For a dict or list, also lists the overrides that changed its items.

    Raises:
        ConfigKeyError: There is no such key.
    """
    _, _, value = find_value(cfg._cfg_dict, path)
    steps = history(cfg, path)
    written = write_python({"value": value})[len("value = ") :]
    notes = [f"  # {step.origin}" if step.origin else "" for step in steps]
    if len(steps) == 1:  # the value is already shown
        lines = [f"{note}\n".replace("#", "# set at", 1) for note in notes if note]
    else:
        room = shutil.get_terminal_size((_COLUMN * 4, 24)).columns - max(map(len, notes)) - 5
        texts = [brief(step.value, max(min(_COLUMN, room), _COLUMN // 4)) for step in steps]
        width = max(map(len, texts))
        rows = enumerate(zip(texts, notes, strict=True))
        lines = [f"{'  -> ' if place else '     '}{text:<{width}}{note}\n" for place, (text, note) in rows]
    nested = [line.origin for line in _lines(value, "", "", None)]
    if overrides := {origin.file for origin in nested if isinstance(origin, KeyOrigin) and origin.is_override}:
        lines.append(f"  # items changed by {' and '.join(sorted(overrides))}\n")
    return f"{path} = {written}" + "".join(lines)


def keys_as_data(cfg: Config, path: str = "") -> dict[str, Any]:
    """Returns a dict that maps key paths to their values and the history of each value, latest first.

    Contains the keys at and below `path`. The keys of a dict are listed separately; a list counts as one value.

    Raises:
        ConfigKeyError: There is no such key.
    """
    value = find_value(cfg._cfg_dict, path)[2] if path else cfg._cfg_dict
    if not isinstance(value, ConfigDict) or not value:
        steps = [{"value": step.value, **_place(step.origin)} for step in history(cfg, path)]
        return {path: {"value": value, "history": steps[::-1]}}
    keys: dict[str, Any] = {}
    for key in value:
        keys |= keys_as_data(cfg, join_path([*(split_path(path) if path else ()), key]))
    return keys


def _place(origin: Origin | None) -> dict[str, Any]:
    return {} if origin is None else {"file": origin.file, "line": origin.line or None}


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
    else:
        yield Line(f"{indent}{key}{brief(value)}{end}", origin, before)


def brief(value: Any, width: int = 72) -> str:
    """Formats a value as config code, truncated to `width` characters."""
    text = write_value(value)
    return text if len(text) <= width else f"{text[: width - 4]} ..."
