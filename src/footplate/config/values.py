"""Parses values from the command line, in Python or YAML notation."""

import re
from typing import Any

from footplate.errors import OverrideError

_WORDS = {
    "None": None,
    "null": None,
    "~": None,
    "True": True,
    "true": True,
    "TRUE": True,
    "False": False,
    "false": False,
    "FALSE": False,
}
_INTEGER = re.compile(r"[+-]?\d+(?:_\d+)*")
_LONG = re.compile(r"\d[\d_]{4299,}")
MOST_BITS = 14_000  # per integer: Python converts at most 4,300 digits to text
_PREFIXED = re.compile(r"[+-]?0(?:[xX][\da-fA-F]+|[oO][0-7]+|[bB][01]+)")
_FLOAT = re.compile(r"[+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\.?(?:inf|nan)")
_CLOSERS = {"[": "]", "(": ")", "{": "}"}
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


def read_value(text: str) -> Any:
    """Parses numbers, booleans, None, strings, lists, tuples and dicts; any other text is a string.

    Raises:
        OverrideError: If brackets or quotes are not closed.

    Example:
        >>> read_value("[1, (a, 2e-3), {x: null, 'y': True}]")
        [1, ('a', 0.002), {'x': None, 'y': True}]
        >>> read_value("0.9,0.999")
        [0.9, 0.999]
    """
    try:
        items, comma = _Reader(text).items("")
    except RecursionError as error:
        raise OverrideError("cannot read the value: it is nested too deeply", found=text) from error
    if not items:
        return ""
    return items if comma else items[0]


def read_scalar(word: str) -> Any:
    """Parses one word: a number, a boolean or None; any other word is a string."""
    if word in _WORDS:
        return _WORDS[word]
    try:
        if _INTEGER.fullmatch(word):
            return int(word)
        if _PREFIXED.fullmatch(word):
            value = int(word, 0)
            return value if value.bit_length() <= MOST_BITS else word
        if _FLOAT.fullmatch(word):
            return float(word.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        # Python does not parse integers with more than 4,300 digits.
        return word
    return word


def line_of_long_integer(text: str) -> int:
    """Returns the line of the first integer with too many digits for Python, or 1 if there is none."""
    found = _LONG.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


class _Reader:
    """Parses one value."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def items(self, closer: str) -> tuple[list[Any], bool]:
        """Parses items up to `closer`; returns them and whether there was a comma."""
        items: list[Any] = []
        comma = False
        while True:
            self._skip_space()
            if self._ended(closer):
                return items, comma
            items.append(self._item(closer))
            comma = self._separated(closer) or comma

    def _item(self, closer: str) -> Any:
        text, start = self.text, self.at
        quoted = _QUOTED.match(text, start)
        if quoted and self._ends_item(quoted.end(), closer):
            self.at = quoted.end()
            return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), quoted[0][1:-1])
        if text.startswith("dict(", start):
            self.at += len("dict(")
            return self._pairs(")", "=")
        if text[start] in _CLOSERS:
            self.at += 1
            if text[start] == "{":
                return self._pairs("}", ":")
            items, comma = self.items(_CLOSERS[text[start]])
            if text[start] == "(":
                return tuple(items) if comma or not items else items[0]
            return items
        return read_scalar(self._word(closer))

    def _pairs(self, closer: str, mark: str) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        while True:
            self._skip_space()
            if self._ended(closer):
                return result
            key = self._item(closer + mark)
            self._skip_space()
            if self.text[self.at : self.at + 1] != mark or isinstance(key, (dict, list)):
                raise self._error(f"expected `key{mark} value`")
            self.at += 1
            self._skip_space()
            if self.text[self.at : self.at + 1] in ("", ",", closer):
                raise self._error(f"expected a value after '{key}{mark}'")
            result[key] = self._item(closer)
            self._separated(closer)

    def _word(self, closers: str) -> str:
        start, depth = self.at, 0
        while self.at < len(self.text):
            character = self.text[self.at]
            if depth == 0 and (character == "," or (closers and character in closers)):
                break
            depth += (character in "([{") - (character in ")]}")
            self.at += 1
        if depth > 0:
            raise self._error("a bracket is not closed")
        if start == self.at:
            raise self._error("expected a value")
        return self.text[start : self.at].strip()

    def _ended(self, closer: str) -> bool:
        if self.at < len(self.text):
            if closer and self.text[self.at] == closer:
                self.at += 1
                return True
            return False
        if closer:
            raise self._error(f"'{closer}' is missing")
        return True

    def _separated(self, closer: str) -> bool:
        self._skip_space()
        if self.text[self.at : self.at + 1] == ",":
            self.at += 1
            return True
        if self.at < len(self.text) and self.text[self.at] != closer:
            raise self._error("expected a comma")
        return False

    def _ends_item(self, position: int, closers: str) -> bool:
        rest = self.text[position:].lstrip()
        return not rest or rest[0] == "," or rest[0] in closers

    def _skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _error(self, reason: str) -> OverrideError:
        return OverrideError(f"cannot read the value: {reason}", found=self.text)
