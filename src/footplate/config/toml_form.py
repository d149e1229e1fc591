"""Reads TOML, recording the line of every key, and writes TOML."""

import datetime
import re
import sys
from typing import Any

from footplate.config.origins import Place
from footplate.config.traced import TracedDict
from footplate.config.values import line_of_long_integer
from footplate.errors import ConfigSyntaxError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_REFERENCE = re.compile(r"(?<=[=\[,\s])(__footplate_base_\d+__)(?=\s*(?:[,\]}\n#]|\Z))")
_LINE_OF_ERROR = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")
_KEY = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*""")
_STRINGS = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|' + r"'''.*?'{3,5}(?!')|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL
)
_DOTTED = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*)+""")
_DEEPEST = 200
_MOST_PARTS = 100_000  # of all dotted keys
_SCALAR = re.compile(r"[^,\]}\n#]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


def read_toml(text: str, path: str) -> Any:
    """Parses a TOML text; each dict records the lines of its keys. Dates become strings.

    Raises:
        ConfigSyntaxError: If the text is not valid TOML.
    """
    text = _REFERENCE.sub(r'"\1"', text)
    _check_keys(text, path)
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE_OF_ERROR.search(str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        reason = _LINE_OF_ERROR.sub("", str(error)).strip()
        raise ConfigSyntaxError(f"not valid TOML: {reason}", origin=Place(path, line)) from error
    except ValueError as error:
        place = Place(path, line_of_long_integer(text))
        raise ConfigSyntaxError("not valid TOML: a number is too long", origin=place) from error
    return _placed(value, _Places(text).document(), path)


def _check_keys(text: str, path: str) -> None:
    """Raises an error for dotted keys with many parts, since tomllib takes quadratic time for them."""
    total = 0
    for keys in _DOTTED.finditer(text):
        count = keys[0].count(".")
        total += count
        if count > _DEEPEST or total > _MOST_PARTS:
            line = text.count("\n", 0, keys.start()) + 1
            raise ConfigSyntaxError("the config is nested too deeply", origin=Place(path, line))


def write_toml(value: Any) -> str:
    """Returns plain dicts, lists and scalars as TOML text."""
    import tomli_w

    return tomli_w.dumps(value)


class _Place:
    """The line of a value, and the places of its items."""

    __slots__ = ("items", "keys", "line")

    def __init__(self, line: int) -> None:
        self.line = line
        self.keys: dict[str, _Place] = {}
        self.items: list[_Place] = []


def _placed(value: Any, place: _Place, path: str) -> Any:
    if isinstance(value, dict):
        result = TracedDict()
        result._origins[None] = Place(path, place.line)
        for key, item in value.items():
            below = place.keys.get(key, place)
            dict.__setitem__(result, key, _placed(item, below, path))
            result._origins[key] = Place(path, below.line)
        return result
    if isinstance(value, list):
        places = place.items if len(place.items) == len(value) else [place] * len(value)
        return [_placed(item, below, path) for item, below in zip(value, places, strict=True)]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return value


class _Places:
    """Finds the lines of the keys in a valid TOML text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.counted = 0

    def document(self) -> _Place:
        root = table = _Place(1)
        while True:
            self._skip()
            if self.at >= len(self.text):
                return root
            if self.text.startswith("[[", self.at):
                self.at += 2
                table = self._descend(root, self._key_path(), many=True)
                self.at += 2
            elif self.text[self.at] == "[":
                self.at += 1
                table = self._descend(root, self._key_path())
                self.at += 1
            else:
                self._pair(table)

    def _pair(self, table: _Place) -> None:
        parts = self._key_path()
        line = self._line()
        holder = self._descend(table, parts[:-1])
        self.at += 1
        value = self._value()
        value.line = line
        holder.keys[parts[-1]] = value

    def _value(self) -> _Place:
        self._skip()
        place = _Place(self._line())
        opening = self.text[self.at]
        if opening in "[{":
            self.at += 1
            closer = "]" if opening == "[" else "}"
            while not self._closed(closer):
                if opening == "[":
                    place.items.append(self._value())
                else:
                    self._pair(place)
            return place
        match = _STRINGS.match(self.text, self.at) or _SCALAR.match(self.text, self.at)
        self.at = match.end() if match else self.at + 1
        return place

    def _closed(self, closer: str) -> bool:
        self._skip()
        if self.text[self.at] == ",":
            self.at += 1
            self._skip()
        if self.text[self.at] == closer:
            self.at += 1
            return True
        return False

    def _descend(self, place: _Place, parts: list[str], *, many: bool = False) -> _Place:
        """Returns the table at a key path; in an array of tables, the last one, or a new one if `many`."""
        for index, part in enumerate(parts):
            place = place.keys.setdefault(part, _Place(self._line()))
            if many and index == len(parts) - 1:
                place.items.append(_Place(self._line()))
            if place.items:
                place = place.items[-1]
        return place

    def _key_path(self) -> list[str]:
        parts = []
        while match := _KEY.match(self.text, self.at):
            word = match[1]
            parts.append(_unquoted(word))
            self.at = match.end()
            if self.text[self.at : self.at + 1] != ".":
                break
            self.at += 1
        return parts

    def _skip(self) -> None:
        match = _BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _line(self) -> int:
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line


def _unquoted(word: str) -> str:
    if word[0] not in "\"'":
        return word
    return str(next(iter(tomllib.loads(f"{word} = 1"))))
