"""Reads JSON, recording the line of every key, and writes JSON."""

import json
import re
from collections.abc import Callable
from typing import Any

from footplate.config.origins import Place
from footplate.config.traced import TracedDict
from footplate.errors import ConfigSyntaxError, Origin

# Parses a string that starts after its opening quote; returns it and the position after the closing quote.
_scan_string: Callable[[str, int], tuple[str, int]] = json.decoder.scanstring  # type: ignore[attr-defined]
_SPACE = re.compile(r"[ \t\n\r]*")
_WORD = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|-?Infinity|[A-Za-z_]\w*")
_WORDS = {
    "null": None,
    "true": True,
    "false": False,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}


def read_json(text: str, path: str) -> Any:
    """Parses a JSON text; each dict records the lines of its keys.

    Raises:
        ConfigSyntaxError: If the text is not valid JSON, or an object has a duplicate key.
    """
    return _Reader(text, path).document()


def write_json(value: Any) -> str:
    """Returns plain dicts, lists and scalars as JSON text."""
    return json.dumps(value, indent=4, ensure_ascii=False) + "\n"


class _Reader:
    """Parses one JSON text."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.at = 0
        self.line = 1
        self.counted = 0

    def document(self) -> Any:
        value = self._value()
        if self._peek():
            raise self._error("expected the end of the text")
        return value

    def _value(self) -> Any:
        character = self._peek()
        if character == "{":
            return self._object()
        if character == "[":
            return self._array()
        if character == '"':
            return self._string()
        word = _WORD.match(self.text, self.at)
        if word is None:
            raise self._error("expected a value")
        value = self._scalar(word[0])
        self.at = word.end()
        return value

    def _object(self) -> TracedDict:
        result = TracedDict()
        result._origins[None] = self._origin()
        self.at += 1
        while not self._closes("}", first=not result):
            if self._peek() != '"':
                raise self._error("expected a key in double quotes")
            origin = self._origin()
            key = self._string()
            if key in result:
                raise ConfigSyntaxError(
                    f"the key '{key}' stands twice in one object, first in line {result._origins[key].line}",
                    origin=origin,
                    key=key,
                )
            if self._peek() != ":":
                raise self._error("expected ':' after the key")
            self.at += 1
            dict.__setitem__(result, key, self._value())
            result._origins[key] = origin
        return result

    def _array(self) -> list[Any]:
        items: list[Any] = []
        self.at += 1
        while not self._closes("]", first=not items):
            items.append(self._value())
        return items

    def _closes(self, closer: str, *, first: bool) -> bool:
        """Consumes `closer` and returns True, or consumes the comma before the next item and returns False."""
        if self._peek() == closer:
            self.at += 1
            return True
        if not first:
            if self._peek() != ",":
                raise self._error(f"expected ',' or '{closer}'")
            self.at += 1
            if self._peek() == closer:
                raise self._error(f"expected an item between ',' and '{closer}'")
        return False

    def _string(self) -> str:
        try:
            value, self.at = _scan_string(self.text, self.at + 1)
        except json.JSONDecodeError as error:
            raise self._error(error.msg[0].lower() + error.msg[1:]) from error
        return value

    def _scalar(self, word: str) -> Any:
        if word in _WORDS:
            return _WORDS[word]
        if word[0].isalpha() or word[0] == "_":
            if word.startswith("__footplate_base_"):
                return word
            raise self._error(f"expected a value, not the word '{word[:40]}'")
        try:
            return int(word) if word.lstrip("-").isdigit() else float(word)
        except ValueError as error:
            raise self._error("a number is too long") from error

    def _peek(self) -> str:
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.text[self.at : self.at + 1]

    def _origin(self) -> Origin:
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return Place(self.path, self.line)

    def _error(self, reason: str) -> ConfigSyntaxError:
        line = self.text.count("\n", 0, self.at) + 1
        return ConfigSyntaxError(f"not valid JSON: {reason}", origin=Place(self.path, line))
