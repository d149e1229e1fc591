"""Wraps log lines for a terminal between fields and words."""

import os
import re
import shutil
import unicodedata
from typing import Any

_INDENT = 4
_BLANKS = re.compile(r"(?<![\[( ]) +(?=\S)")  # not the padding of a number in brackets
_HOLDS = re.compile(r"(?::|(?:^| )--[\w-]+)$")  # "lr:" or "--set", which must stay on one line with its value
_GAP = 2  # the minimum number of blanks between fields
_CUT = " …"


def columns_of(stream: Any) -> int | None:
    """Returns the number of columns of the terminal of a stream, or None if the stream is not a terminal."""
    if not getattr(stream, "isatty", bool)():
        return None
    try:
        told = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        told = 0
    return told or shutil.get_terminal_size().columns


def folded(text: str, width: int) -> str:
    """Wraps text to the width of a terminal and indents continuation lines.

    Lines are broken between fields, which are separated by two or more blanks, or otherwise between words. They are
    never broken between "name:" or "--name" and the value. A word that is wider than the terminal, such as a path, is
    not broken. After the first line, lines with table columns are truncated after the last column that fits.

    Args:
        text: One or more lines.
        width: The number of columns of the terminal.
    """
    first, *others = text.split("\n")
    lines = [_broken(first, width), *(_narrowed(line, width) for line in others)]
    return "\n".join(lines)


def _narrowed(line: str, width: int) -> str:
    if _fitting(line, width) == len(line):
        return line
    gaps = [found for found in _BLANKS.finditer(line.lstrip(" ")) if len(found[0]) >= _GAP]
    if len(gaps) < 2:
        return _broken(line, width)
    return line[: _fitting(line, width - len(_CUT)) + 1].rpartition(" ")[0].rstrip(" ") + _CUT


def _broken(line: str, width: int) -> str:
    own = len(line) - len(line.lstrip(" "))
    indent = " " * min(own + _INDENT, width // 2)
    lines: list[str] = []
    rest = line
    while True:
        head = indent if lines else ""
        found = _break_of(rest, width - len(head), own if not lines else 0)
        if found is None:
            return "\n".join([*lines, head + rest])
        lines.append(head + rest[: found.start()])
        rest = rest[found.end() :]


def _break_of(text: str, width: int, begin: int) -> re.Match[str] | None:
    """Returns the blanks to break at: the last ones between fields in the right half, or else the last valid ones."""
    fit = _fitting(text, width)
    if fit == len(text):
        return None
    serving = [found for found in _BLANKS.finditer(text, begin) if found.start() > begin and _serves(text, found)]
    within = [found for found in serving if found.start() <= fit]
    between = [found for found in within if len(found[0]) >= _GAP and found.start() > fit // 2]
    if within:
        return (between or within)[-1]
    return serving[0] if serving else None


def _serves(text: str, blanks: re.Match[str]) -> bool:
    return len(blanks[0]) >= _GAP or not _HOLDS.search(text, 0, blanks.start())


def _fitting(text: str, width: int) -> int:
    """Returns how many characters of the text fit into `width` columns."""
    if text.isascii():
        return min(len(text), max(width, 0))
    taken = 0
    for count, letter in enumerate(text):
        taken += _cells(letter)
        if taken > width:
            return count
    return len(text)


def _cells(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
