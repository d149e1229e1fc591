"""Sets up the standard streams of a command, and prints its result as text or JSON."""

import io
import json
import logging
import os
import re
import shutil
import sys
import traceback
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

from footplate.errors import Origin
from footplate.messages import RED, YELLOW, PrintableFormatter, indentation, printable, styled, wrap_line
from footplate.tools.json_values import as_json

DOCUMENT_FILE = "FOOTPLATE_DOCUMENT"
"""The environment variable for a file path. Rank 0 writes its JSON document there for the parent process."""

_STDOUT, _STDERR = 1, 2  # file descriptors
_DEFAULT_WIDTH, _MIN_WIDTH = 100, 40  # columns
_LABEL = re.compile(r" *\S+(?: \S+)*? {2,}(?=\S)")


def print_text(text: str, *styles: tuple[str, int]) -> None:
    """Writes text to standard output. Escapes control characters; see `printable`.

    On terminals, text that matches the regular expression of a `(pattern, style)` pair gets the style.
    """
    _write(sys.stdout, _apply_styles(text, sys.stdout, *styles))


def _apply_styles(text: str, stream: TextIO, *styles: tuple[str, int]) -> str:
    text = printable(text)
    for pattern, style in styles:
        text = re.sub(pattern, styled(r"\g<0>", style, stream), text, flags=re.MULTILINE)
    return text


def _write(stream: TextIO, text: str) -> None:
    """Writes text to a stream. Does not raise an error if the reader of a pipe, such as `head`, has exited."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        # At exit, Python would try to write the rest again and fail.
        with suppress(OSError, ValueError):  # the stream has no file descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise


def print_error(text: str) -> None:
    """Writes text to standard error, with a colored "error:" or "warning:" on terminals. Escapes control characters."""
    sys.stderr.write(_apply_styles(text, sys.stderr, (r"\Aerror:", RED), (r"\Awarning:", YELLOW)))


def print_held_warnings(arguments: Namespace, error: Exception | None = None) -> None:
    """Prints the warnings about `--cfg-options`, unless the error that ends the command is about such a key."""
    is_repeated = getattr(error, "origin", None) == Origin("--cfg-options", 0)
    for record in () if is_repeated else arguments.held_warnings:
        message = f"warning: {record.getMessage()}\n"
        print_error(wrap_for_screen(message, sys.stderr))
    arguments.held_warnings = ()


def open_streams() -> None:
    """Makes the standard streams escape characters that are unsafe or cannot be encoded.

    Escapes control characters in tracebacks, and in the warnings of commands that have no log. Also escapes characters
    that the encoding of standard output cannot represent.
    """
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter("%(message)s"))
    sys.excepthook = lambda *error: print_error("".join(traceback.format_exception(*error)))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def reserving_stdout(arguments: Namespace) -> Iterator[None]:
    """Reserves standard output for the JSON document if `--json` is given. All other output goes to standard error.

    Child processes and C code write to file descriptor 1, so the descriptor is redirected as well. It stays redirected
    after the block, because child processes and C code may still write while this process exits.

    Args:
        arguments: The arguments of the command. Sets `arguments.results` to the document's stream, and
            `arguments.document_file` to the value of `DOCUMENT_FILE`, and clears `arguments.has_document`.
    """
    arguments.results, arguments.has_document = sys.stdout, False
    # Removed so that commands started by user code do not count as ranks.
    arguments.document_file = os.environ.pop(DOCUMENT_FILE, None)
    if not arguments.json:
        yield
        return
    sys.stdout.flush()
    with suppress(OSError, ValueError):  # a stream without a descriptor
        if sys.stdout.fileno() == _STDOUT:
            arguments.results = open(os.dup(_STDOUT), "w", encoding="utf-8")  # noqa: SIM115 - stays open until exit
            os.dup2(_STDERR, _STDOUT)
    if arguments.document_file is not None and os.environ.get("RANK") == "0":
        arguments.results = open(arguments.document_file, "w", encoding="utf-8")  # noqa: SIM115
    with redirect_stdout(sys.stderr):
        yield


def print_result(arguments: Namespace, data: object, text: str, *styles: tuple[str, int]) -> None:
    """Prints the result of a command: `data` as JSON with `--json`, otherwise `text`; see `print_text`."""
    if arguments.json:
        print_json(arguments, data)
    else:
        print_text(text, *styles)


def print_json(arguments: Namespace, data: object) -> None:
    """Prints a command's JSON document to the stream reserved by `reserving_stdout`.

    Prints only the first document, so an error after the result, for example at exit, is not printed.
    """
    if arguments.has_document:
        return
    text = json.dumps(as_json(data), indent=2) + "\n"
    arguments.has_document = True
    _write(arguments.results, text)


def wrap_text(text: str, width: int | None = None) -> str:
    """Wraps a command's output at word boundaries.

    Continuation lines are aligned with the text after the label or, without a label, indented by two spaces.

    Args:
        text: One or more lines. Two or more spaces separate an optional label from the rest of its line.
        width: The number of columns, at least 40. The default is the width of the terminal, or 100 if there is no
            terminal.

    Example:
        >>> print(wrap_text("metrics     mIoU, mAcc, mDice, mFscore, mPrecision, mRecall", 40))
        metrics     mIoU, mAcc, mDice, mFscore,
                    mPrecision, mRecall
    """
    columns = max(width or shutil.get_terminal_size((_DEFAULT_WIDTH, 24)).columns, _MIN_WIDTH)
    wrapped = []
    for line in text.split("\n"):
        label = _LABEL.match(line)
        if label and label.end() <= columns // 2:
            wrapped.append(wrap_line(line, columns, label[0], label.end()))
        else:
            wrapped.append(wrap_line(line, columns, "", indentation(line) + 2))
    return "\n".join(wrapped)


def wrap_for_screen(text: str, stream: TextIO | None = None) -> str:
    """Wraps text if the stream, by default stdout, is a terminal. Returns it unchanged for a file or a pipe."""
    return wrap_text(text) if (stream or sys.stdout).isatty() else text
