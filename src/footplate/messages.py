"""Helpers for the text of messages: escaping, plurals, suggestions for misspelled words, and line wrapping."""

import difflib
import logging
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

# Terminal control characters, line separators, text direction marks, and surrogates, which cannot be encoded.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT_WORD = 4
_INDENT = 4  # the indentation of continuation lines in the log
_GAP = 2  # the minimum number of blanks between fields
_ELLIPSIS = " …"
_DEFAULT_WIDTH, _MIN_WIDTH = 100, 40  # the width of the text that commands print
_LABEL = re.compile(r" *\S+(?: \S+)*? {2,}(?=\S)")
# Lines are broken at these blanks, but not at the padding in brackets or before a word in parentheses.
_BLANKS = re.compile(r"(?<![\[( ]) +(?=\S)(?!\(\w+\))")
_NAME = re.compile(r"(?::|(?:^| )--[\w-]+)$")  # "lr:" or "--set", which must stay on one line with its value


def printable(text: str) -> str:
    r"""Replaces control characters with visible escapes, except newlines and tabs.

    Everything that commands print and loggers write must pass through this function, because names, values and
    messages may come from untrusted configs, checkpoints and runs.

    >>> printable("\x1b[2Jcat\n")
    '\\x1b[2Jcat\n'
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def one_line(text: str) -> str:
    r"""Replaces control characters with visible escapes, including newlines and tabs.

    >>> one_line("loss\n2026 - ERROR")
    'loss\\n2026 - ERROR'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class PrintableFormatter(logging.Formatter):
    """Formats log records and escapes their control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the formatted record."""
        return printable(super().format(record))


def pluralize(count: int, noun: str) -> str:
    """Returns the count and the noun, with an "s" unless the count is 1.

    >>> pluralize(1, "group"), pluralize(1200, "group")
    ('1 group', '1200 groups')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def list_names(names: Iterable[object], limit: int) -> str:
    """Returns at most `limit` names, separated by commas, and the number of omitted names.

    >>> list_names(range(5), 3)
    '0, 1, 2 and 2 more'
    """
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def labeled(label: str, text: object) -> str:
    """Returns a summary line with the label in a separate column.

    >>> labeled("metrics", "mIoU, mAcc")
    'metrics     mIoU, mAcc'
    """
    return f"{label:<11} {text}"


def format_interval(interval: int, noun: str) -> str:
    """Formats an interval, such as that between two saves.

    >>> format_interval(1, "epoch"), format_interval(1200, "iteration")
    ('every epoch', 'every 1200 iterations')
    """
    return f"every {noun}" if interval == 1 else f"every {interval} {noun}s"


def format_seconds(seconds: float) -> str:
    """Formats a duration as hours, minutes and seconds.

    >>> format_seconds(100_000.5)
    '27:46:40'
    """
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"


def nearest(word: object, candidates: Iterable[str], *, similarity: float | None = None) -> str | None:
    """Returns the candidate that `word` was most likely meant to be, or None if none is similar enough.

    Args:
        word: The word to correct.
        candidates: The valid words.
        similarity: The fraction of letters that must match, from 0 to 1. The default depends on the length of the word.

    Example:
        >>> nearest("train_dataloder", ["train_dataloader", "val_dataloader"])
        'train_dataloader'
    """
    word = str(word)  # a config may hold any value in place of a name
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.casefold(), candidate)
    # Two swapped letters lower the similarity of a short word a lot: SDG, SGD.
    least = similarity or (0.6 if len(word) <= _SHORT_WORD else 0.72)
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=least)
    return by_folded[found[0]] if found else None


def edit_distance(first: str, second: str, replacement: int = 1) -> int:
    """Returns the number of edits between two words: insertions, deletions, replacements and swaps of adjacent letters.

    Unlike the similarity that `nearest` uses, it does not match a letter that has moved to a distant position.

    Args:
        first: A word.
        second: The other word.
        replacement: The number of edits that replacing a letter counts as.

    >>> edit_distance("modle", "model"), edit_distance("hook", "hooks"), edit_distance("pad", "val", replacement=2)
    (1, 1, 4)
    """
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        last, before, row = before, row, [i]
        for j, other in enumerate(second, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (0 if letter == other else replacement))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]


def format_bytes(count: int) -> str:
    """Formats a number of bytes in the largest unit in which it is at least 1.

    >>> format_bytes(999), format_bytes(1_234_567)
    ('999 B', '1.2 MB')
    """
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


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
