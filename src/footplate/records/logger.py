"""Configures the standard library logger "footplate", and keeps runs going if stdout fails."""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from typing import Any

from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.messages import (
    BOLD,
    CYAN,
    DIM,
    RED,
    YELLOW,
    PrintableFormatter,
    nearest,
    printable,
    styled,
    terminal_width,
    wrap_log,
)

_NAME = "footplate"
_logger = logging.getLogger("footplate.records")
# `logger.info(..., extra=NOT_SHOWN)` writes a record only to the log file, so that it does not clutter the screen.
NOT_SHOWN = {"shown": False}
# Records with `extra=PROGRESS` repeat what a live display shows. A notebook with such a display leaves them out.
# Metrics are no progress: the display has only those whose names imply whether higher or lower is better.
PROGRESS = {"is_progress": True}
_WIDE_TERMINAL = 160  # the minimum number of columns for showing the date and the name of the logger
# The number of lines of the live display in the terminal or notebook, or 0. Set by the display.
live_rows = 0


class _JSONFormatter(logging.Formatter):
    """Formats each record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, _DATE)
        return json.dumps(
            {"time": time, "logger": record.name, "level": record.levelname, "message": record.getMessage()}
        )


class _LineFormatter(PrintableFormatter):
    """Formats a line of the log. The loggers of footplate's packages are all shown as "footplate"."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        name = record.name if _is_of_others(record) else _NAME
        return super().formatMessage(logging.makeLogRecord({**record.__dict__, "name": name}))


_DATE = "%Y/%m/%d %H:%M:%S"
_FORMAT = _LineFormatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s", _DATE)
_SHORT_FORMAT = PrintableFormatter("%(asctime)s - %(levelname)s - %(message)s", "%H:%M:%S")
_INFO_FORMAT = PrintableFormatter("%(asctime)s - %(message)s", "%H:%M:%S")
# Rates and times in a line of progress, which a terminal shows after losses and metrics.
_TIMES = r"(?<!\S)(?:\S*lr|eta|(?:\w+/)?(?:data_)?time|memory):"
_STYLED = re.compile(  # times, classes at zero, and values of losses and metrics
    rf"(\A[\d/: ]+(?= - )|{_TIMES}\xa0(?s:.*))|(^\S+(?: \S+)*  +0\.0+(?: .*)?$)|(?<=:\xa0)[^\s\x1b]+", re.MULTILINE
)
_STYLES = {None: CYAN, 1: DIM, 2: RED}  # by the number of the group


class ScreenHandler(logging.Handler):
    """Writes log lines to the current `sys.stdout`, so that a live display remains intact.

    On a terminal, shortens the prefix, shows losses and metrics first, and wraps lines between words. A table loses the
    columns that do not fit, and a line of training progress loses values that the live display shows. Warnings are
    yellow, errors and classes with a result of zero are red, losses and metrics are cyan, and times are dim. The metric
    named in a record's attribute `headline` comes first, in bold and with the record's `change`; the others are dim. A
    pipe receives the same lines as the log file.

    Packages that call `logging.basicConfig` when they are imported, such as lvis, do not print the lines again.
    """

    def emit(self, record: logging.LogRecord) -> None:
        for handler in logging.root.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(_is_of_others)
        if not getattr(record, "shown", True) or sys.stdout is None:
            return
        try:
            columns = terminal_width(sys.stdout)
            if columns is None and live_rows and hasattr(record, "is_progress"):
                return
            line = self.format(record)
            headline = ""
            if columns is not None:
                if columns < _WIDE_TERMINAL:
                    line = (_INFO_FORMAT if record.levelno == logging.INFO else _SHORT_FORMAT).format(record)
                width = columns - 1  # a line that fills the last column might wrap after a resize
                if re.search(r" - (Iter|Epoch)\(.*\Z", line):
                    if name := getattr(record, "headline", ""):
                        pattern = rf"(?<=    )((?:.*  )?)({re.escape(name)}: \S+)(?:  )?"
                        change = getattr(record, "change", "")
                        line = re.sub(pattern, lambda match: f"{match[2]}{change}  {match[1]}", line)
                        headline = rf"(?<=\s){re.escape(name)}:\s\S+(?:\s\(\S+\))?"
                    line = _lay_out(line, width)
                elif "\nclass " in line:
                    line = re.sub(
                        rf"(?m)^(.{{,{width}}})(?<=\S)(?!\S).*", r"\1", line
                    )  # after the last column that fits
                line = wrap_log(line, width)
            if record.levelno >= logging.WARNING:
                line = styled(line, RED if record.levelno >= logging.ERROR else YELLOW, sys.stdout)
            elif columns is not None:
                rest = ""
                if found := headline and re.search(headline, line):
                    rest = styled(found[0], BOLD, sys.stdout) + styled(line[found.end() :], DIM, sys.stdout)
                    line = line[: found.start()]
                line = _STYLED.sub(lambda match: styled(match[0], _STYLES[match.lastindex], sys.stdout), line) + rest
            sys.stdout.write(line.replace("\xa0", " ") + "\n")
            sys.stdout.flush()
        except Exception:  # a call with wrong arguments must not end the run
            self.handleError(record)


def _is_of_others(record: logging.LogRecord) -> bool:
    return record.name != _NAME and not record.name.startswith(f"{_NAME}.")


def _lay_out(line: str, width: int) -> str:
    """Moves rates and times in a line of progress after the losses and metrics.

    If a line of training progress is too long, drops values that the live display shows.
    """
    line = re.sub(rf"((?:  {_TIMES} (?:\d+ days?, )?\S+)+)(.*)", r"\2\1", line)
    for names in ("eta|time|data_time|memory", "lr") if live_rows and "(train)" in line else ():
        if len(line) > width:
            line = re.sub(rf"  (?:{names}): (?:\d+ days?, )?\S+", "", line)
    return re.sub(r"(?<=\S:) +", "\xa0", line)  # non-breaking, so that lines wrap only between values


class _FileHandler(logging.FileHandler):
    """Writes the log to a file. With `delay=True`, the first record creates the file and its folder.

    Reports only the first failed write, in one line, whereas the standard library would print a traceback for each
    failure.
    """

    has_reported = False

    def _open(self) -> Any:
        if self.delay:
            os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # the file cannot be created
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.has_reported and sys.stderr is not None:
            self.has_reported = True
            message = (
                f"cannot write to '{self.baseFilename}': {error.strerror or error}. "
                "Some log lines are missing from this file.\n"
            )
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(printable(message))


def get_logger(name: str = _NAME) -> logging.Logger:
    """Returns footplate's logger, or the logger of one of its packages, as in `get_logger("footplate.optim")`."""
    return logging.getLogger(name)


def check_level(level: object) -> None:
    """Raises an ArgumentError if `level` is not a valid log level."""
    try:
        logging.Handler(level)  # type: ignore[arg-type]  # raises for other types
    except (ValueError, TypeError):
        near = nearest(str(level), ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
        message = "the log level must be DEBUG, INFO, WARNING, ERROR, CRITICAL or a number"
        raise ArgumentError(message, found=level, suggestion=near) from None


def set_level(level: int | str, *, screen: bool = True) -> None:
    """Sets the log level and whether to show the log on the screen.

    Args:
        level: A name such as "INFO" or "WARNING", or a number.
        screen: Whether to show the log on the screen. Ranks other than 0 pass False.
    """
    with at_key("log_level"):
        check_level(level)
    logger = logging.getLogger(_NAME)
    logger.setLevel(level)
    shown = [handler for handler in logger.handlers if isinstance(handler, ScreenHandler)]
    if screen and not shown:
        handler = ScreenHandler()
        handler.setFormatter(_FORMAT)
        logger.addHandler(handler)
    if not screen:
        for handler in shown:
            logger.removeHandler(handler)
        if all(isinstance(handler, MemoryHandler) for handler in logger.handlers):  # otherwise, Python prints warnings
            logger.addHandler(logging.NullHandler())


@contextmanager
def _handled_by(*handlers: logging.Handler) -> Iterator[None]:
    """Adds handlers to the logger for the duration of a block."""
    logger = logging.getLogger(_NAME)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):  # a full disk must not hide an exception raised in the block
                handler.close()


@contextmanager
def buffer_log() -> Iterator[list[logging.LogRecord]]:
    """Collects the log records emitted in the block in a list, which can be passed to `logging_to` as `before`."""
    handler = MemoryHandler(capacity=0)  # without a target, it keeps all records
    with _handled_by(handler):
        yield handler.buffer


@contextmanager
def logging_to(
    path: str,
    before: Sequence[logging.LogRecord] = (),
    *,
    errors_only: bool = False,
) -> Iterator[None]:
    """Writes the log to the file `path` for the duration of a block, in addition to the screen.

    Also writes warnings and errors as JSON lines to `<name>.warnings.jsonl` in the same folder.

    Args:
        path: The log file.
        before: Records that were logged before the file was opened.
        errors_only: Whether to write only errors. The first error creates the files.
    """
    log = _FileHandler(path, delay=errors_only, encoding="utf-8")
    log.setFormatter(_FORMAT)
    warnings = _FileHandler(f"{os.path.splitext(path)[0]}.warnings.jsonl", delay=True, encoding="utf-8")
    warnings.setFormatter(_JSONFormatter())
    warnings.has_reported = True  # failed writes are reported by the other handler
    for handler, level in ((log, logging.NOTSET), (warnings, logging.WARNING)):
        handler.setLevel(logging.ERROR if errors_only else level)
        for record in before:
            if record.levelno >= handler.level:
                handler.handle(record)
    with _handled_by(log, warnings):
        yield


def add_log_file(logger: logging.Logger, path: str, mode: str = "a") -> None:
    """Adds a handler that writes the records of `logger` to the file `path`, which is opened in the mode `mode`."""
    handler = _FileHandler(path, mode, encoding="utf-8")
    handler.setFormatter(_FORMAT)
    logger.addHandler(handler)


class _SurvivingStream:
    """Wraps a stream, and redirects it to /dev/null after a failed write."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name = name
        self._stream = stream
        self._has_failed = False

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        self._try(self._stream.writelines, lines)

    def flush(self) -> None:
        if not getattr(self._stream, "closed", False):  # a user's stream may lack this attribute
            self._try(self._stream.flush)

    def _try(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(*arguments)
        except OSError as error:
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
                self._stream.flush()  # otherwise, Python would fail to flush it at exit
            if not self._has_failed:
                self._has_failed = True
                _logger.warning(
                    "Cannot write to %s (%s). All further output to it is discarded, but the run continues.",
                    self._name,
                    error.strerror,
                )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def surviving_streams() -> Iterator[None]:
    """Keeps the block running if printing fails (a broken pipe, a closed terminal or a full disk).

    After the first failure of stdout or stderr, logs a warning and discards all further output to that stream.
    """
    with contextlib.ExitStack() as stack:
        for name, redirect in (("stdout", contextlib.redirect_stdout), ("stderr", contextlib.redirect_stderr)):
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, _SurvivingStream):
                surviving: Any = _SurvivingStream(name, stream)
                stack.enter_context(redirect(surviving))
                stack.callback(surviving.flush)
        yield


def print_urgent(line: str) -> None:
    """Writes a line to stderr from a signal handler, bypassing buffers that may be in use.

    On a terminal, the line replaces the live display, which is redrawn below the line. If stderr is closed, the line is
    lost.
    """
    if sys.__stderr__ is None:
        return  # file descriptor 2 may belong to another file, such as a checkpoint
    text = f"{printable(line)}\n"
    if live_rows and os.isatty(2):
        text = "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (live_rows - 1) + text + "\n" * (live_rows - 1)
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
