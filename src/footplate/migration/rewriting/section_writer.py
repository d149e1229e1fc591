"""Writes config sections as text; reuses expressions of the old file where they mean the same."""

import keyword
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from footplate.config import Config
from footplate.migration.key_map import Path
from footplate.migration.rewriting.comments import EntryComments, Comment
from footplate.migration.rewriting.differences import DELETE
from footplate.migration.rewriting.expressions import OldExpression

_WIDTH = 79
_INDENT = 4

Quote = Callable[[Path], OldExpression | None]
"""Returns the old expression for a path of the new config, if there is one."""


class _Entry(NamedTuple):
    """A value within a section: what stands before it on its line, the value, its path and its old expression."""

    prefix: str
    value: Any
    path: Path
    quoted: OldExpression | None

    @property
    def beside(self) -> EntryComments:
        """Its comments."""
        return EntryComments() if self.quoted is None else self.quoted.beside

    @property
    def standing(self) -> OldExpression | None:
        """The old expression, if it can be reused as it is."""
        quoted = self.quoted
        if quoted is None or quoted.code is None:
            return None
        if not isinstance(self.value, Mapping):
            fits = quoted.keys is None and quoted.is_list in (None, isinstance(self.value, (list, tuple)))
            return quoted if fits else None
        if quoted.is_list or quoted.keys not in (None, frozenset(self.value)):
            return None
        if quoted.keys is None and DELETE in self.value:
            return quoted._replace(code=f"dict({DELETE}=True, **{quoted.code})") if quoted.code.isidentifier() else None
        return quoted


class Written(NamedTuple):
    """A section as text.

    Attributes:
        text: The text, which ends with a newline.
        reads: The variables that it reads.
        told: The comments of the old file that stand in it.
    """

    text: str
    reads: frozenset[str]
    told: frozenset[Comment]


class Writer:
    """Writes sections in the manner of a file.

    Args:
        quote: Finds old expressions for the values of a section.
        double: Whether texts stand in double quotes.
    """

    def __init__(self, quote: Quote, *, double: bool) -> None:
        self._quote = quote
        self._mark = '"' if double else "'"
        self._told: set[Comment] = set()
        self._used: list[OldExpression] = []

    def statement(self, name: str, value: Any) -> Written:
        """Writes `name = value`; a comment that was written before is not written again."""
        return self._statement(name, value, (name,))

    def item(self, name: str, key: str, value: Any) -> Written:
        """Writes `name["key"] = value`."""
        return self._statement(f"{name}[{self._mark}{key}{self._mark}]", value, (name, key))

    def _statement(self, target: str, value: Any, path: Path) -> Written:
        before = set(self._told)
        self._used = []
        text = self._written(_Entry(f"{target} = ", value, path, self._quote(path)), 0)
        reads = frozenset(name for each in self._used for name in each.reads)
        told = {comment for each in self._used for comment in each.within} | (self._told - before)
        return Written(f"{target} = {text}\n", reads, frozenset(told))

    def _written(self, entry: _Entry, indent: int, *, after: int = 0) -> str:
        quoted = entry.standing
        column = indent + len(entry.prefix)
        if quoted is not None and not _is_too_wide(quoted, column + after):
            self._used.append(quoted)
            return _shifted(quoted, indent, column)
        entries = self._entries(entry)
        if not entries:
            return self._atom(entry.value)
        used: list[OldExpression] = []
        line = self._flat(entry, used)
        if line is not None and column + len(line) + after <= _WIDTH:
            self._used += used
            return line
        opening, closing = _brackets(entry.value)
        rows = [row for each in entries for row in self._rows(each, indent + _INDENT)]
        return "\n".join([opening, *rows, f"{' ' * indent}{closing}"])

    def _rows(self, entry: _Entry, indent: int) -> list[str]:
        """Writes an entry on lines of its own, with its comments."""
        new = [each for each in entry.beside.all if each not in self._told]
        self._told.update(new)
        space = " " * indent
        above = [space + each.text for each in entry.beside.above if each in new]
        behind = [f"  {each.text}" for each in new if each == entry.beside.behind]
        return [*above, f"{space}{entry.prefix}{self._written(entry, indent, after=1)},{''.join(behind)}"]

    def _flat(self, entry: _Entry, used: list[OldExpression]) -> str | None:
        """Writes a value on one line, or returns None if an old expression or a comment needs more lines."""
        quoted = entry.standing
        if quoted is not None:
            used.append(quoted)
            return None if "\n" in str(quoted.code) else quoted.code
        entries = self._entries(entry)
        if not entries:
            return self._atom(entry.value)
        pieces = []
        for each in entries:
            piece = self._flat(each, used)
            if piece is None or not self._told.issuperset(each.beside.all):
                return None
            pieces.append(each.prefix + piece)
        comma = "," if type(entry.value) is tuple and len(pieces) == 1 else ""
        opening, closing = _brackets(entry.value)
        return opening + ", ".join(pieces) + comma + closing

    def _entries(self, entry: _Entry) -> list[_Entry]:
        value = entry.value
        if isinstance(value, Mapping):
            items = [(self._key(key, value), item, str(key)) for key, item in value.items()]
        elif type(value) in (list, tuple):
            items = [("", item, str(place)) for place, item in enumerate(value)]
        else:
            return []
        paths = [(prefix, item, (*entry.path, part)) for prefix, item, part in items]
        return [_Entry(prefix, item, path, self._quote(path)) for prefix, item, path in paths]

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


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return ("dict(", ")") if _has_words(value) else ("{", "}")
    return ("[", "]") if isinstance(value, list) else ("(", ")")


def _is_too_wide(quoted: OldExpression, column: int) -> bool:
    """Checks whether a dict is too long for one line."""
    code = str(quoted.code)
    return bool(quoted.keys) and "\n" not in code and column + len(code) > _WIDTH


def _shifted(quoted: OldExpression, indent: int, column: int) -> str:
    """Indents the further lines of an expression as far as its new place asks for; texts of several lines stay.

    Args:
        quoted: The expression.
        indent: How far the line is indented that it begins on now.
        column: Where in that line it begins.
    """
    code = str(quoted.code)
    first, *rest = code.split("\n")
    if '"""' in code or "'''" in code:
        return code
    is_aligned = all(len(line) - len(line.lstrip()) > quoted.column for line in rest if line.strip())
    by = column - quoted.column if is_aligned else indent - quoted.indentation
    moved = [" " * max(len(line) - len(line.lstrip()) + by, 0) + line.lstrip() if line.strip() else "" for line in rest]
    return "\n".join([first, *moved])


def _has_words(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key) for key in value)
