"""Reads JSON and TOML and records the line of every key, which the parsers of the standard library do not provide."""

import datetime
import json
import re
import sys
from collections.abc import Callable
from typing import Any

from footplate.config.origins import Place, TracedDict
from footplate.errors import ConfigSyntaxError, Origin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Parses a string that starts after its opening quote; returns it and the position after the closing quote.
_scan_string: Callable[[str, int], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
_JSON_SPACE = re.compile(r"[ \t\n\r]*")
_JSON_WORD = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|-?Infinity|[A-Za-z_]\w*")
_JSON_CONSTANTS: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
_TOML_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_TOML_REFERENCE = re.compile(r"(?<=[=\[,\s])(__footplate_base_\d+__)(?=\s*(?:[,\]}\n#]|\Z))")
_TOML_ERROR_LINE = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
_TOML_KEY = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*""")
_TOML_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|' + r"'''.*?'{3,5}(?!')|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL
)
_TOML_SCALAR = re.compile(r"[^,\]}\n#]+")
_TOML_DOTTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*)+""")
_MAX_DEPTH = 200
_MAX_PARTS = 100_000  # of all dotted keys


class _Cursor:
    """A position in a text, with its line."""

    def __init__(self, text: str, space: re.Pattern[str]) -> None:
        self.text = text
        self.at = 0
        self._space = space
        self._line, self._counted = 1, 0

    def peek(self) -> str:
        """Skips spaces and returns the next character, or "" at the end."""
        space = self._space.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.text[self.at : self.at + 1]

    def line(self) -> int:
        """Returns the current line, counted from 1."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line


def read_json(text: str, path: str) -> Any:
    """Parses a JSON text; each dict records the lines of its keys.

    Raises:
        ConfigSyntaxError: The text is not valid JSON, or an object has a duplicate key.
    """
    parser = _JsonParser(text, path)
    value = parser.value()
    if parser.peek():
        raise parser.error("expected the end of the text")
    return value


class _JsonParser(_Cursor):
    """Parses JSON. References to the base, `__footplate_base_0__`, are values, too."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text, _JSON_SPACE)
        self.path = path

    def value(self) -> Any:
        """Parses one value."""
        character = self.peek()
        if character == "{":
            return self._object()
        if character == "[":
            items: list[Any] = []
            self.at += 1
            while not self._closes("]", is_first=not items):
                items.append(self.value())
            return items
        return self._string() if character == '"' else self._scalar()

    def error(self, reason: str) -> ConfigSyntaxError:
        """Returns the error for the current line."""
        line = self.text.count("\n", 0, self.at) + 1
        return ConfigSyntaxError(f"not valid JSON: {reason}", origin=Place(self.path, line))

    def _object(self) -> TracedDict:
        result = TracedDict()
        result._origins[None] = self._origin()
        self.at += 1
        while not self._closes("}", is_first=not result):
            if self.peek() != '"':
                raise self.error("expected a key in double quotes")
            origin = self._origin()
            key = self._string()
            if key in result:
                message = f"the key '{key}' is set twice in one object, first in line {result._origins[key].line}"
                raise ConfigSyntaxError(message, origin=origin, key=key)
            if self.peek() != ":":
                raise self.error("expected ':' after the key")
            self.at += 1
            dict.__setitem__(result, key, self.value())
            result._origins[key] = origin
        return result

    def _closes(self, closer: str, *, is_first: bool) -> bool:
        """Consumes `closer` and returns True, or consumes the comma before the next item and returns False."""
        if self.peek() == closer:
            self.at += 1
            return True
        if not is_first:
            if self.peek() != ",":
                raise self.error(f"expected ',' or '{closer}'")
            self.at += 1
            if self.peek() == closer:
                raise self.error(f"expected an item between ',' and '{closer}'")
        return False

    def _string(self) -> str:
        try:
            value, self.at = _scan_string(self.text, self.at + 1)
        except json.JSONDecodeError as error:
            raise self.error(error.msg[0].lower() + error.msg[1:]) from error
        return value

    def _scalar(self) -> Any:
        match = _JSON_WORD.match(self.text, self.at)
        if match is None:
            raise self.error("expected a value")
        word = match[0]
        is_reference = word.startswith("__footplate_base_")
        if word not in _JSON_CONSTANTS and not is_reference and (word[0].isalpha() or word[0] == "_"):
            raise self.error(f"expected a value, not the word '{word[:40]}'")
        self.at = match.end()
        if word in _JSON_CONSTANTS or is_reference:
            return _JSON_CONSTANTS.get(word, word)
        try:
            return int(word) if word.lstrip("-").isdigit() else float(word)
        except ValueError as error:
            raise self.error("a number is too long") from error

    def _origin(self) -> Origin:
        return Place(self.path, self.line())


def read_toml(text: str, path: str) -> Any:
    """Parses a TOML text; each dict records the lines of its keys. Dates become strings.

    Raises:
        ConfigSyntaxError: The text is not valid TOML.
    """
    text = _TOML_REFERENCE.sub(r'"\1"', text)
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
        raise ConfigSyntaxError(f"not valid TOML: {reason}", origin=Place(path, line)) from error
    return _with_origins(value, _TomlLines(text).document(), path)


class _Lines:
    """The line of a value, and the lines of its keys and items."""

    __slots__ = ("items", "keys", "line")

    def __init__(self, line: int) -> None:
        self.line = line
        self.keys: dict[str, _Lines] = {}
        self.items: list[_Lines] = []


def _with_origins(value: Any, lines: _Lines, path: str) -> Any:
    """Returns a parsed TOML value with the origins of its keys, and with dates as strings."""
    if isinstance(value, dict):
        result = TracedDict()
        result._origins[None] = Place(path, lines.line)
        for key, item in value.items():
            below = lines.keys.get(key, lines)
            dict.__setitem__(result, key, _with_origins(item, below, path))
            result._origins[key] = Place(path, below.line)
        return result
    if isinstance(value, list):
        each = lines.items if len(lines.items) == len(value) else [lines] * len(value)
        return [_with_origins(item, below, path) for item, below in zip(value, each, strict=True)]
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else value


class _TomlLines(_Cursor):
    """Finds the lines of the keys in a valid TOML text."""

    def __init__(self, text: str) -> None:
        super().__init__(text, _TOML_SPACE)

    def document(self) -> _Lines:
        """Returns the lines of the whole text."""
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
            match = _TOML_STRING.match(self.text, self.at) or _TOML_SCALAR.match(self.text, self.at)
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
        """Returns the table at a key path; in an array of tables, the last one, or a new one if `is_array`."""
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
