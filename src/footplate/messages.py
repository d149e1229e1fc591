"""Formats messages: escapes control characters, forms plurals, suggests corrections for typos, and wraps lines."""

import difflib
import logging
import os
import re
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

# Terminal control characters, line separators, text direction marks, and surrogates, which cannot be encoded.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
RED, GREEN, YELLOW, CYAN, BOLD, DIM = 31, 32, 33, 36, 1, 2  # for `styled`
_SHORT_WORD = 4
_FEW_LETTERS = 2
_HALF = 0.5
_INDENT = 4  # indentation of continuation lines in the log


def printable(text: str) -> str:
    r"""Replaces control characters, except newlines and tabs, with visible escapes.

    All output of commands and loggers must pass through this function, because names, values and messages may come from
    untrusted configs, checkpoints and runs.

    >>> printable("\x1b[2Jcat\n")
    '\\x1b[2Jcat\n'
    """
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def first_line(value: object) -> str:
    """Returns the first line of a string or an error message."""
    return str(value).strip().partition("\n")[0]


def describe_exception(error: BaseException) -> str:
    """Returns the type of an exception and, if it has a message, the first line of the message, without a final colon.

    >>> describe_exception(ValueError("too small")), describe_exception(KeyboardInterrupt())
    ('ValueError: too small', 'KeyboardInterrupt')
    """
    return f"{type(error).__name__}: {first_line(error)}".rstrip(": ")


def one_line(text: str) -> str:
    r"""Replaces control characters, including newlines and tabs, with visible escapes.

    >>> one_line("loss\n2026 - ERROR")
    'loss\\n2026 - ERROR'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class PrintableFormatter(logging.Formatter):
    """Formats log records and escapes control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the formatted record."""
        return printable(super().format(record))


def pluralize(count: int, noun: str) -> str:
    """Formats a count and a noun. The noun is in the plural unless the count is 1.

    >>> pluralize(1, "group"), pluralize(1200, "group")
    ('1 group', '1200 groups')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def list_names(names: Iterable[object], limit: int) -> str:
    """Returns up to `limit` comma-separated names, followed by the number of omitted names.

    >>> list_names(range(5), 3)
    '0, 1, 2 and 2 more'
    """
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def labeled(label: str, text: object) -> str:
    """Formats a line of a summary, with the label in its own column.

    >>> labeled("metrics", "mIoU, mAcc")
    'metrics     mIoU, mAcc'
    """
    return f"{label:<11} {text}"


def format_seconds(seconds: float) -> str:
    """Formats a duration as hours, minutes and seconds, rounded to the second.

    >>> format_seconds(100_000.6)
    '27:46:41'
    """
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def nearest(word: object, candidates: Iterable[str], *, is_typo: bool = False) -> str | None:
    """Returns the candidate most similar to `word`, ignoring case, or None if none is similar enough.

    The letters between a common start and a common end must be few, missing in one of the words, or similar as well. A
    candidate with the same letters in another order always matches.

    Args:
        word: The word to correct.
        candidates: The valid words.
        is_typo: Whether the words must be so similar that `word` is certainly a misspelling.

    Example:
        >>> nearest("train_dataloder", ["train_dataloader", "val_dataloader"])
        'train_dataloader'
        >>> nearest("sge.py", ["use.py", "seg.py"])
        'seg.py'
        >>> nearest("runs/nope", ["runs/e3"]) is None
        True
    """
    word = str(word)  # a config may contain any value where a name is expected
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.casefold(), candidate)
    folded = word.casefold()
    # Swapped letters first: in a short word, they reduce the similarity a lot (SDG, SGD).
    swapped = [candidate for candidate in by_folded if sorted(candidate) == sorted(folded)]
    least = 0.85 if is_typo else 0.6 if len(word) <= _SHORT_WORD else 0.72
    matches = difflib.get_close_matches(folded, swapped or by_folded, cutoff=0 if swapped else least)
    return next((by_folded[match] for match in matches if swapped or _differ_little(folded, match)), None)


def _differ_little(word: str, other: str) -> bool:
    """Checks whether the parts of two words that differ are short or similar, as in "scales" and "scaled"."""
    for _ in range(2):  # removes the common start, then the common end
        start = len(os.path.commonprefix([word, other]))
        word, other = word[start:][::-1], other[start:][::-1]
    is_short = not word or not other or max(len(word), len(other)) <= _FEW_LETTERS
    return is_short or difflib.SequenceMatcher(None, word, other).ratio() >= _HALF


def format_bytes(count: int) -> str:
    """Formats a number of bytes in the largest binary unit for which the value is at least 1.

    >>> format_bytes(999), format_bytes(1_234_567)
    ('999 B', '1.2 MiB')
    """
    size = float(count)
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size = size / 1024
        unit = larger
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


def styled(text: str, code: int, stream: Any) -> str:
    """Applies an ANSI style, such as 31 for red, to text that will be written to a stream.

    Returns the text unchanged if the stream is not a terminal, or if NO_COLOR or TERM=dumb is set.
    """
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or terminal_width(stream) is None
    return text if is_plain else f"\x1b[{code}m{text}\x1b[0m"


def wrap_log(text: str, width: int) -> str:
    """Wraps a log message of one or more lines to `width` columns and indents continuation lines.

    Breaks lines only between words. A word that is longer than a line, such as a path, stays whole.
    """
    wrapped = [wrap_line(line, width, "", min(indentation(line) + _INDENT, width // 2)) for line in text.split("\n")]
    return "\n".join(wrapped)


def indentation(line: str) -> int:
    """Returns the number of spaces at the start of a line."""
    return len(line) - len(line.lstrip(" "))


def wrap_line(line: str, width: int, label: str, indent: int) -> str:
    """Wraps a line between words but not within its label. `indent` is the indentation of continuation lines."""
    return textwrap.fill(
        line.removeprefix(label),
        max(width, 1),
        initial_indent=label,
        subsequent_indent=" " * indent,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
