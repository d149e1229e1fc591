"""Text as wide as the terminal."""

import re
import shutil
import sys
import textwrap

_PIPED = 100  # columns where nothing tells the width
_NARROWEST = 40
_LABEL = re.compile(r" *\S+(?: \S+)*? {2,}(?=\S)")
_REMARK = re.compile(r" (?=\(\w+\))")  # of one word: it stays with what it is about
_GLUE = "\N{NO-BREAK SPACE}"


def fitted(text: str, width: int | None = None) -> str:
    """Returns text whose long lines are broken between words, and go on below their second column.

    Args:
        text: Lines, some with a label and two spaces or more before what they say.
        width: Columns; by default those of the terminal, and 100 where there is none.

    Example:
        >>> print(fitted("metrics     mIoU, mAcc, mDice, mFscore, mPrecision, mRecall", 40))
        metrics     mIoU, mAcc, mDice, mFscore,
                    mPrecision, mRecall
    """
    columns = max(width or shutil.get_terminal_size((_PIPED, 24)).columns, _NARROWEST)
    return "\n".join(_broken(line, columns) for line in text.split("\n"))


def fitted_to_screen(text: str) -> str:
    """Returns text for a terminal as `fitted` does; what goes to a file or a pipe stays as it is, a line a thing."""
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
