"""Shows where the keys of a config were written."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from footplate.config import Config, ConfigDict
from footplate.config.formats import write_python, write_value
from footplate.config.key_paths import find_value, next_key, split_path
from footplate.config.origins import Replaced, shown_path, value_history
from footplate.error_context import origin_of
from footplate.errors import Origin

_INDENT = "    "
_WIDEST_VALUE = 72
_COLUMN = 64


class Line(NamedTuple):
    """One line of a resolved config.

    Attributes:
        text: The line, with its indentation.
        origin: Where the key was written.
        before: The earlier values of the key, the latest first.
    """

    text: str
    origin: Origin | None
    before: list[Replaced]


class Step(NamedTuple):
    """A value that a key had in a base, in the config or by an override, and its place."""

    value: Any
    origin: Origin | None


def source_files(cfg: Config) -> list[str]:
    """Returns the files that a config was read from: its own file and those of all current and replaced values."""
    lines = list(_lines(cfg._cfg_dict, ""))
    origins = [origin for line in lines for origin in (line.origin, *(each.origin for each in line.before))]
    return list(dict.fromkeys([*([str(cfg.filename)] if cfg.filename else []), *(o.file for o in origins if o)]))


def explain_config(cfg: Config) -> str:
    """Returns the resolved config, one value per line, with the place of each value and the values it replaced.

    Imports nothing that the config names.
    """
    lines = list(_lines(cfg._cfg_dict, ""))
    shorten = _Shortener(lines)
    width = min(_COLUMN, max((len(line.text) for line in lines if line.origin), default=0) + 2)
    texts = [f"# files below {shorten.folder}"] if shorten.folder else []
    for line in lines:
        note = shorten(line.origin) if line.origin else ""
        for replaced in line.before:
            note += f"  was {_brief(replaced.value)}, {shorten(replaced.origin)}"
        texts.append(f"{line.text.ljust(width)}  # {note}" if note else line.text)
    return "\n".join(texts) + "\n"


def explain_key(cfg: Config, path: str) -> str:
    """Returns the value of a key and the values it had before, from the first base to the last override.

    Raises:
        ConfigKeyError: There is no such key.
    """
    _, _, value = find_value(cfg._cfg_dict, path)
    steps = history(cfg, path)
    written = write_python({"value": value})[len("value = ") :]
    texts = [_brief(step.value) for step in steps]
    width = min(_COLUMN, max(map(len, texts)))
    lines = [
        f"  {'-> ' if number else '   '}{text.ljust(width)}  {step.origin or ''}"
        for number, (text, step) in enumerate(zip(texts, steps, strict=True))
    ]
    return f"{path} = {written}" + "\n".join(lines) + "\n"


def history(cfg: Config, path: str) -> list[Step]:
    """Returns every value that a key had, starting with the first base, with its place.

    Includes values that were removed together with an enclosing dict, by `_delete_` or by replacing the dict.
    """
    steps: list[Step] = []
    for value, origin in _past(cfg._cfg_dict, list(split_path(path))):
        if not any(step.origin == origin and _equal(step.value, value) for step in steps):
            steps.append(Step(value, origin))
    return steps


def _past(holder: Any, parts: list[Any]) -> Iterator[Replaced]:
    if isinstance(holder, ConfigDict):
        key, rest = next_key(holder, parts)
        if key not in holder:
            return
        links = value_history(dict.__getitem__(holder, key), origin_of(holder, key))
    elif isinstance(holder, (list, tuple)) and str(parts[0]).isdigit() and int(parts[0]) < len(holder):
        rest = parts[1:]
        links = [Replaced(holder[int(parts[0])], None)]
    else:
        return
    for link in links:
        if rest:
            for below in _past(link.value, rest):
                yield below if below.origin else Replaced(below.value, link.origin)
        else:
            yield link


def _lines(value: Any, indent: str, key: str = "", origin: Origin | None = None, end: str = "") -> Iterator[Line]:
    """Yields the lines of a value; a dict, or a list with dicts in it, takes one line per item."""
    if isinstance(value, dict) and value:
        inner = indent + _INDENT if key or end else indent
        if key or end:
            yield Line(f"{indent}{key}dict(", None, [])
        for name, item in value.items():
            place = origin_of(value, name)
            separator = " = " if not (key or end) else "="
            yield from _lines(item, inner, f"{name}{separator}", place, "," if key or end else "")
        if key or end:
            yield Line(f"{indent}){end}", None, [])
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        opening, closing = "[]" if isinstance(value, list) else "()"
        yield Line(f"{indent}{key}{opening}", origin, _before(value, origin))
        for item in value:
            yield from _lines(item, indent + _INDENT, "", None, ",")
        yield Line(f"{indent}{closing}{end}", None, [])
    else:
        yield Line(f"{indent}{key}{_brief(value)}{end}", origin, _before(value, origin))


def _before(value: Any, origin: Origin | None) -> list[Replaced]:
    return value_history(value, origin)[-2::-1]


def _brief(value: Any) -> str:
    text = write_value(value)
    return text if len(text) <= _WIDEST_VALUE else f"{text[: _WIDEST_VALUE - 4]} ..."


def _equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except Exception:
        # Objects in a config may define any comparison, even one that raises.
        return first is second


class _Shortener:
    """Formats origins: paths relative to the common folder of all files, and recipes by the names that configs use."""

    def __init__(self, lines: list[Line]) -> None:
        files = {origin.file for line in lines for origin in [line.origin, *(r.origin for r in line.before)] if origin}
        folders = {os.path.dirname(file) for file in files if _is_far(file)}
        self.folder = os.path.commonpath(folders) if folders else ""

    def __call__(self, origin: Origin | None) -> str:
        if origin is None:
            return ""
        file = os.path.relpath(origin.file, self.folder) if _is_far(origin.file) else shown_path(origin.file)
        return f"{file}:{origin.line}" if origin.line else file


def _is_far(file: str) -> bool:
    """Checks whether a file is shown by its absolute path, unlike recipes and relative paths."""
    return os.path.isabs(file) and "::" not in shown_path(file)
