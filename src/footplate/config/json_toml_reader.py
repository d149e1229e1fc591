"""Reads JSON and TOML, and records the line of every key, because the parsers of the standard library do not."""

import datetime
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from footplate.config.origins import Place, TracedDict
from footplate.errors import ConfigSyntaxError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# These patterns also match strings that are not closed or end in a lone backslash. Otherwise, a search through such a
# text would take quadratic time.
_JSON_STRING = r'"(?:[^"\\]|\\(?:.|\Z))*(?:"|\Z)'
_TOML_STRING = (
    r'"""(?:[^\\]|\\(?:.|\Z))*?(?:"{3,5}(?!")|\Z)|'
    r"'''.*?(?:'{3,5}(?!')|\Z)|"
    r'"(?:[^"\\\n]|\\.)*"?|'
    r"'[^'\n]*'?"
)
_BARE_REFERENCE = r"(?P<reference>__footplate_base_\d+__)(?!\s*[:=])"
_JSON_REFERENCE = re.compile(rf"{_JSON_STRING}|{_BARE_REFERENCE}", re.DOTALL)
_JSON_OBJECT_OR_KEY = re.compile(rf"\{{|{_JSON_STRING}(?P<key>\s*:)?", re.DOTALL)
_TOML_REFERENCE = re.compile(rf"{_TOML_STRING}|#[^\n]*|{_BARE_REFERENCE}", re.DOTALL)
_TOML_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_TOML_ERROR_LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
_TOML_KEY = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*""")
_TOML_VALUE = re.compile(rf"{_TOML_STRING}|[^,\]}}\n#]+", re.DOTALL)
_TOML_DOTTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*)+""")
_MAX_DEPTH = 200
_MAX_PARTS = 100_000  # in all dotted keys together


def _quote_references(text: str, pattern: re.Pattern[str]) -> str:
    """Puts references to the base, such as `__footplate_base_0__`, in quotes if they are not part of a string."""
    if "__footplate_base_" not in text:
        return text
    return pattern.sub(lambda match: f'"{match[0]}"' if match["reference"] else match[0], text)


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of a JSON object."""


def read_json(text: str, path: str) -> Any:
    """Parses JSON text. Each dict records the line numbers of its keys.

    Raises:
        ConfigSyntaxError: The text is not valid JSON, or an object has a duplicate key.
    """
    text = _quote_references(text, _JSON_REFERENCE)
    try:
        value = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        reason = error.msg[0].lower() + error.msg[1:]
        raise ConfigSyntaxError(f"the text is not valid JSON: {reason}", origin=Place(path, error.lineno)) from error
    places, line, counted = [], 1, 0  # the places of all objects and keys, in the order of the text
    for match in _JSON_OBJECT_OR_KEY.finditer(text):
        if match[0] == "{" or match["key"]:
            line += text.count("\n", counted, match.start())
            counted = match.start()
            places.append(Place(path, line))
    return _with_places(value, iter(places))


def _with_places(value: Any, places: Iterator[Place]) -> Any:
    if isinstance(value, _Pairs):
        result = TracedDict._written_at(next(places))
        for key, item in value:
            origin = next(places)
            if key in result:
                message = f"the key '{key}' occurs twice in one object, first on line {result._origins[key].line}"
                raise ConfigSyntaxError(message, origin=origin, key=key)
            result._put(key, _with_places(item, places), origin)
        return result
    return [_with_places(item, places) for item in value] if isinstance(value, list) else value


def read_toml(text: str, path: str) -> Any:
    """Parses TOML text. Each dict records the line numbers of its keys. Dates become strings.

    Raises:
        ConfigSyntaxError: The text is not valid TOML.
    """
    text = _quote_references(text, _TOML_REFERENCE)
    parts = 0
    for keys in _TOML_DOTTED.finditer(text):  # tomllib takes quadratic time for dotted keys with many parts
        count = keys[0].count(".")
        parts += count
        if count > _MAX_DEPTH or parts > _MAX_PARTS:
            line = text.count("\n", 0, keys.start()) + 1
            raise ConfigSyntaxError("the config is nested too deeply", origin=Place(path, line))
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_ERROR_LINE.search(str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        reason = _TOML_ERROR_LINE.sub("", str(error)).strip()
        raise ConfigSyntaxError(f"the text is not valid TOML: {reason}", origin=Place(path, line)) from error
    return _with_origins(value, _TomlLines(text).document(), path)


class _Lines:
    """The line of a value and the lines of its keys and items."""

    __slots__ = ("items", "keys", "line")

    def __init__(self, line: int) -> None:
        self.line = line
        self.keys: dict[str, _Lines] = {}
        self.items: list[_Lines] = []


def _with_origins(value: Any, lines: _Lines, path: str) -> Any:
    """Returns a parsed TOML value with the origins of its keys, and with dates as strings."""
    if isinstance(value, dict):
        result = TracedDict._written_at(Place(path, lines.line))
        for key, item in value.items():
            below = lines.keys.get(key, lines)
            result._put(key, _with_origins(item, below, path), Place(path, below.line))
        return result
    if isinstance(value, list):
        each = lines.items if len(lines.items) == len(value) else [lines] * len(value)
        return [_with_origins(item, below, path) for item, below in zip(value, each, strict=True)]
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else value


class _TomlLines:
    """Finds the line of each key in valid TOML."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._line, self._counted = 1, 0

    def peek(self) -> str:
        """Skips spaces and comments and returns the next character, or "" at the end."""
        space = _TOML_SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.text[self.at : self.at + 1]

    def line(self) -> int:
        """Returns the current line, counted from 1."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def document(self) -> _Lines:
        """Returns the lines of all keys in the text."""
        root = table = _Lines(1)
        while self.peek():
            if self.text[self.at] != "[":
                self._pair(table)
                continue
            is_array = self.text.startswith("[[", self.at)
            self.at += 1 + is_array
            table = self._descend(root, self._key_path(), is_array=is_array)
            self.at += 1 + is_array
        return root

    def _pair(self, table: _Lines) -> None:
        parts = self._key_path()
        line = self.line()
        holder = self._descend(table, parts[:-1])
        self.at += 1
        value = self._value()
        value.line = line
        holder.keys[parts[-1]] = value

    def _value(self) -> _Lines:
        opening = self.peek()
        lines = _Lines(self.line())
        if opening not in ("[", "{"):
            match = _TOML_VALUE.match(self.text, self.at)
            self.at = match.end() if match else self.at + 1
            return lines
        self.at += 1
        while self.peek() not in ("]", "}"):
            if self.peek() == ",":
                self.at += 1
            elif opening == "[":
                lines.items.append(self._value())
            else:
                self._pair(lines)
        self.at += 1
        return lines

    def _descend(self, lines: _Lines, parts: list[str], *, is_array: bool = False) -> _Lines:
        """Returns the lines of the table at a key path.

        In an array of tables, this is the last table, or a new one if `is_array` is set.
        """
        for index, part in enumerate(parts):
            lines = lines.keys.setdefault(part, _Lines(self.line()))
            if is_array and index == len(parts) - 1:
                lines.items.append(_Lines(self.line()))
            if lines.items:
                lines = lines.items[-1]
        return lines

    def _key_path(self) -> list[str]:
        parts = []
        while match := _TOML_KEY.match(self.text, self.at):
            word = match[1]
            parts.append(word if word[0] not in "\"'" else next(iter(tomllib.loads(f"{word} = 1"))))
            self.at = match.end()
            if self.text[self.at : self.at + 1] != ".":
                break
            self.at += 1
        return parts
