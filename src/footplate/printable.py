"""Text that is safe to print: the one place where control characters become visible escapes."""

import logging
import re

# What a terminal obeys, what ends a line, what reverses the text around it, and surrogates, which no file takes.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Returns a text for a terminal, a log or a page, with control characters as visible escapes.

    Line ends and tabs stay. Everything that commands print and logs write goes through here: names, values and
    messages come from configs, checkpoints and runs of others.

    >>> printable("\x1b[2Jcat\n")
    '\\x1b[2Jcat\n'
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def one_line(text: str) -> str:
    r"""Returns a name or message of others for one line: as `printable` does, with line ends and tabs as escapes too.

    >>> one_line("loss\n2026 - ERROR")
    'loss\\n2026 - ERROR'
    """
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class PrintableFormatter(logging.Formatter):
    """Formats records of a log without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, or lines, of a record."""
        return printable(super().format(record))
