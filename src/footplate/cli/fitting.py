"""Wraps text to the width of the terminal."""

import re
import shutil
import sys
import textwrap

_PIPED = 100  # columns if the width is unknown
_NARROWEST = 40
_LABEL = re.compile(r" *\S+(?: \S+)*? {2,}(?=\S)")
_REMARK = re.compile(r" (?=\(\w+\))")  # a remark of one word stays on the line of the word before it
_GLUE = "\N{NO-BREAK SPACE}"


def fitted(text: str, width: int | None = None) -> str:
    """Wraps long lines between words; continuation lines are indented to the second column.

    Args:
        text: The lines; a label may be separated from the rest of a line by two or more spaces.
        width: The columns. The default is the width of the terminal, or 100 without one.

    Example:
        >>> print(fitted("metrics     mIoU, mAcc, mDice, mFscore, mPrecision, mRecall", 40))
        metrics     mIoU, mAcc, mDice, mFscore,
                    mPrecision, mRecall
    """
    columns = max(width or shutil.get_terminal_size((_PIPED, 24)).columns, _NARROWEST)
    return "\n".join(_broken(line, columns) for line in text.split("\n"))


def fitted_to_screen(text: str) -> str:
    """Wraps text for a terminal; leaves text for a file or a pipe unchanged."""
    return fitted(text) if sys.stdout.isatty() else text


def _broken(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip(" "))]
    label = _LABEL.match(line)
    first, later = (label[0], label.end()) if label and label.end() <= width // 2 else (indent, len(indent) + 2)
    lines = textwrap.wrap(
        _REMARK.sub(_GLUE, line[len(first) :]),
        width,
        initial_indent=first,
        subsequent_indent=" " * later,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace(_GLUE, " ")
