"""Wraps text to the width of a terminal."""

import os
import re
import shutil
import sys
import unicodedata
from typing import Any

_INDENT = 4  # the indentation of continuation lines in the log
_GAP = 2  # the minimum number of blanks between fields
_ELLIPSIS = " …"
_DEFAULT_WIDTH, _MIN_WIDTH = 100, 40  # the width of the text that commands print
_LABEL = re.compile(r" *\S+(?: \S+)*? {2,}(?=\S)")
# Lines are broken at these blanks, but not at the padding in brackets or before a word in parentheses.
_BLANKS = re.compile(r"(?<![\[( ]) +(?=\S)(?!\(\w+\))")
_NAME = re.compile(r"(?::|(?:^| )--[\w-]+)$")  # "lr:" or "--set", which must stay on one line with its value


def terminal_width(stream: Any) -> int | None:
    """Returns the width of a stream's terminal in columns, or None if the stream is not a terminal."""
    if not getattr(stream, "isatty", bool)():
        return None
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):
        columns = 0
    return columns or shutil.get_terminal_size().columns


def wrap_log(text: str, width: int) -> str:
    """Wraps a log message to the width of a terminal and indents continuation lines.

    Lines are broken between fields. Fields are separated by two or more spaces. If a line has no fields, it is broken
    between words. A line is broken between "name:" or "--name" and the value only if the two do not fit on one line. A
    word that is wider than the terminal, such as a path, is not broken. From the second line on, table rows are
    truncated after the last column that fits.

    Args:
        text: One or more lines.
        width: The number of columns of the terminal.
    """
    wrapped = []
    for number, line in enumerate(text.split("\n")):
        start = len(line) - len(line.lstrip(" "))
        gaps = sum(len(blanks[0]) >= _GAP for blanks in _BLANKS.finditer(line.lstrip(" ")))
        if number and gaps >= 2 and _count_fitting(line, width) < len(line):
            head = line[: _count_fitting(line, width - len(_ELLIPSIS)) + 1]
            wrapped.append(head.rpartition(" ")[0].rstrip(" ") + _ELLIPSIS)
        else:
            wrapped.append(_wrap_line(line, width, start, min(start + _INDENT, width // 2)))
    return "\n".join(wrapped)


def wrap_text(text: str, width: int | None = None) -> str:
    """Wraps a command's output at word boundaries. Continuation lines are indented to the second column.

    Args:
        text: One or more lines. A label may be separated from the rest of its line by two or more spaces.
        width: The number of columns. The default is the width of the terminal, or 100 if there is no terminal.

    Example:
        >>> print(wrap_text("metrics     mIoU, mAcc, mDice, mFscore, mPrecision, mRecall", 40))
        metrics     mIoU, mAcc, mDice, mFscore,
                    mPrecision, mRecall
    """
    columns = max(width or shutil.get_terminal_size((_DEFAULT_WIDTH, 24)).columns, _MIN_WIDTH)
    wrapped = []
    for line in text.split("\n"):
        label = _LABEL.match(line)
        start = len(line) - len(line.lstrip(" "))
        if label and label.end() <= columns // 2:
            wrapped.append(_wrap_line(line, columns, label.end(), label.end()))
        else:
            wrapped.append(_wrap_line(line, columns, start, start + 2))
    return "\n".join(wrapped)


def wrap_for_screen(text: str) -> str:
    """Wraps text if standard output is a terminal. Returns text for a file or a pipe unchanged."""
    return wrap_text(text) if sys.stdout.isatty() else text


def _wrap_line(line: str, width: int, start: int, indent: int) -> str:
    """Wraps a line at the last gap between fields if the gap is in the right half, and between words otherwise.

    Args:
        line: The line.
        width: The number of columns.
        start: The length of the start of the line that is not broken, such as a label.
        indent: The indentation of continuation lines.
    """
    lines: list[str] = []
    prefix = ""
    while (fit := _count_fitting(line, width - len(prefix))) < len(line):
        breaks = [blanks for blanks in _BLANKS.finditer(line, start) if blanks.start() > start]
        fitting = [blanks for blanks in breaks if blanks.start() <= fit]
        gaps = [blanks for blanks in fitting if len(blanks[0]) >= _GAP]
        late_gaps = [blanks for blanks in gaps if blanks.start() > fit // 2]
        words = [blanks for blanks in fitting if blanks in gaps or not _NAME.search(line, 0, blanks.start())]
        chosen = (late_gaps or words or fitting)[-1:] or breaks[:1]
        if not chosen:
            break
        lines.append(prefix + line[: chosen[0].start()])
        line, start, prefix = line[chosen[0].end() :], 0, " " * indent
    return "\n".join([*lines, prefix + (line.rstrip(" ") if lines else line)])


def _count_fitting(text: str, width: int) -> int:
    """Returns the number of characters of the text that fit into `width` columns."""
    if text.isascii():
        return min(len(text), max(width, 0))
    columns = 0
    for count, letter in enumerate(text):
        if not unicodedata.combining(letter):
            columns += 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        if columns > width:
            return count
    return len(text)
