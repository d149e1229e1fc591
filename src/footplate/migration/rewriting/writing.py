"""Sections as text, with the expressions of the old file where they mean the same."""

import keyword
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from footplate.config import Config

Path = tuple[str, ...]

_WIDTH = 79
_INDENT = 4


class Quoted(NamedTuple):
    """An expression of the old file.

    Attributes:
        code: Its text.
        column: How far the line was indented that it began on.
    """

    code: str
    column: int


Quote = Callable[[Path], Quoted | None]
"""Returns the old expression for a path of the new config, if there is one."""


class Writer:
    """Writes sections in the manner of a file.

    Args:
        quote: Finds old expressions for the values of a section.
        double: Whether texts stand in double quotes.
    """

    def __init__(self, quote: Quote, *, double: bool) -> None:
        self._quote = quote
        self._mark = '"' if double else "'"

    def statement(self, name: str, value: Any) -> str:
        """Returns the text of `name = value`, which ends with a newline."""
        return f"{name} = {self._written(value, (name,), 0, len(name) + 3)}\n"

    def _written(self, value: Any, path: Path, indent: int, used: int) -> str:
        quoted = self._quote(path)
        if quoted is not None:
            return _shifted(quoted, indent)
        if isinstance(value, Mapping) and value:
            items = [(self._key(key, value), item, (*path, str(key))) for key, item in value.items()]
            opening, closing = ("dict(", ")") if _has_words(value) else ("{", "}")
        elif type(value) in (list, tuple) and value:
            items = [("", item, (*path, str(place))) for place, item in enumerate(value)]
            opening, closing = "[]" if isinstance(value, list) else "()"
        else:
            return self._atom(value)
        flat = [prefix + self._written(item, below, 0, 0) for prefix, item, below in items]
        comma = "," if type(value) is tuple and len(flat) == 1 else ""
        line = opening + ", ".join(flat) + comma + closing
        if "\n" not in line and used + len(line) <= _WIDTH:
            return line
        inner = indent + _INDENT
        rows = [
            " " * inner + prefix + self._written(item, below, inner, inner + len(prefix) + 1)
            for prefix, item, below in items
        ]
        return f"{opening}\n" + ",\n".join(rows) + f",\n{' ' * indent}{closing}"

    def _key(self, key: Any, holder: Mapping[Any, Any]) -> str:
        return f"{key}=" if _has_words(holder) else f"{self._atom(key)}: "

    def _atom(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return "dict()"
        text = Config({"value": value}).pretty_text.partition(" = ")[2].rstrip("\n")
        if isinstance(value, str) and text[0] != self._mark and self._mark not in text[1:-1]:
            inside = text[1:-1].replace(f"\\{text[0]}", text[0])
            return f"{self._mark}{inside}{self._mark}"
        return text


def _shifted(quoted: Quoted, indent: int) -> str:
    """Indents the further lines of an expression as far as its new place asks for; texts of several lines stay."""
    first, *rest = quoted.code.split("\n")
    if '"""' in quoted.code or "'''" in quoted.code:
        return quoted.code
    by = indent - quoted.column
    moved = [" " * max(len(line) - len(line.lstrip()) + by, 0) + line.lstrip() if line.strip() else "" for line in rest]
    return "\n".join([first, *moved])


def _has_words(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)
