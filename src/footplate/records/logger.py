"""The log: the standard library's, under the name "footplate"."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from typing import Any

from footplate.checks import check_count
from footplate.errors import ArgumentError
from footplate.messages import PrintableFormatter, nearest, printable
from footplate.records.folding import columns_of, folded

_NAME = "footplate"
# `logger.info(..., extra=NOT_SHOWN)`: what belongs into the log's file, and would hide the figures on a screen.
NOT_SHOWN = {"shown": False}
# What is said at an iteration, of thousands maybe; `show_iterations` keeps it from the screen.
OF_ITERATION = {"of_iteration": True}


class _Formatter(PrintableFormatter):
    """Formats a record once: the screen, the file and the question whether the file is full take the same line."""

    def format(self, record: logging.LogRecord) -> str:
        line: str | None = getattr(record, "footplate_line", None)
        if line is None:
            line = record.footplate_line = super().format(record)
        return line


_FORMAT = _Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s", "%Y/%m/%d %H:%M:%S")
_SHORT = PrintableFormatter("%(asctime)s - %(levelname)s - %(message)s", "%H:%M:%S")
_ROOMY = 120  # columns of a terminal from which on the day and the part of the program have room


class _ScreenHandler(logging.Handler):
    """Writes to the standard output of the moment, so that a live display above or below it stays whole.

    On a terminal, lines are broken between words, and a narrow one is spared what every line of a run repeats; a pipe
    gets the line that the file gets.
    """

    shows_iterations = True

    def emit(self, record: logging.LogRecord) -> None:
        if not self._shows(record) or sys.stdout is None:
            return
        try:
            sys.stdout.write(self._line(record) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self.handleError(record)

    def _shows(self, record: logging.LogRecord) -> bool:
        spared = getattr(record, "of_iteration", False) and not self.shows_iterations
        return getattr(record, "shown", True) and not spared

    def _line(self, record: logging.LogRecord) -> str:
        columns = columns_of(sys.stdout)
        if columns is None:
            return self.format(record)
        line = self.format(record) if columns >= _ROOMY else _SHORT.format(record)
        return folded(line, columns - 1)  # a full last column would wrap at a resize


class _Collector(_ScreenHandler):
    """Keeps warnings in place of showing what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(record.getMessage())


def show_iterations(shown: bool) -> None:
    """Says whether the screen shows lines of single iterations, or leaves them to the log's file and to a display."""
    _ScreenHandler.shows_iterations = shown


def get_logger(name: str = _NAME) -> logging.Logger:
    """Returns the logger of footplate, or a part's: `get_logger("footplate.optim")`."""
    return logging.getLogger(name)


def check_level(level: object) -> None:
    """Refuses a level that logging does not know.

    Raises:
        ArgumentError: There is no such level.
    """
    try:
        if isinstance(level, bool):
            raise TypeError
        logging.Handler(level)  # type: ignore[arg-type]  # what is neither text nor a number is refused
    except (ValueError, TypeError):
        near = nearest(str(level), ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
        raise ArgumentError(f"unknown log level '{level}'", key="log_level", suggestion=near) from None


def set_level(level: int | str, *, screen: bool = True) -> None:
    """Sets what is logged, and whether it is shown on the screen.

    Args:
        level: "INFO", "WARNING" ... or the number.
        screen: False for processes other than the first.
    """
    check_level(level)
    logger = logging.getLogger(_NAME)
    logger.setLevel(level)
    shown = [handler for handler in logger.handlers if isinstance(handler, _ScreenHandler)]
    if screen and not shown:
        handler = _ScreenHandler()
        handler.setFormatter(_FORMAT)
        logger.addHandler(handler)
    if not screen:
        for each in shown:
            logger.removeHandler(each)
        if all(isinstance(each, _Keeper) for each in logger.handlers):  # without any, Python shows warnings by itself
            logger.addHandler(logging.NullHandler())


class _Keeper(logging.Handler):
    """Keeps what is logged, for a file that is opened later."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def remembered() -> Iterator[list[logging.LogRecord]]:
    """Yields the list to which everything is added that is logged in the block; `logging_to` takes it."""
    keeper = _Keeper()
    logging.getLogger(_NAME).addHandler(keeper)
    try:
        yield keeper.records
    finally:
        logging.getLogger(_NAME).removeHandler(keeper)


@contextmanager
def logging_to(
    path: str, before: Iterable[logging.LogRecord] = (), *, max_mb: float = 50, backups: int = 3
) -> Iterator[None]:
    """Writes the log to the file `path` too, for the duration of a block.

    Args:
        path: The file. When it is full it becomes `name.1.log`, and that `name.2.log`, so that the newest is `path`.
        before: What was logged before the file could be opened.
        max_mb: How large a file may become, in millions of bytes; 0 for no end.
        backups: How many full files are kept beside the newest.
    """
    handler = _BoundedFileHandler(path, maxBytes=round(max_mb * 1e6), backupCount=backups, encoding="utf-8")
    handler.setFormatter(_FORMAT)
    for record in before:
        handler.handle(record)
    logging.getLogger(_NAME).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(_NAME).removeHandler(handler)
        with contextlib.suppress(OSError):  # a disk that is full: how the block ended counts more
            handler.close()


class _OneComplaint(logging.Handler):
    """Reports the first line that cannot be written, in one line; the standard library prints a traceback for each."""

    _has_complained = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_complained and sys.stderr is not None:
            self._has_complained = True
            path = getattr(self, "baseFilename", "the log file")
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(
                    printable(f"cannot write to '{path}': {error.strerror or error}. Lines are missing.\n")
                )


class _FileHandler(_OneComplaint, logging.FileHandler):
    """Writes the log to a file that has no bound."""


class _ErrorFileHandler(_FileHandler):
    """Makes file and folder when the first error comes."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.setLevel(logging.ERROR)
        self.setFormatter(_FORMAT)

    def _open(self) -> Any:
        os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
        return super()._open()


@contextmanager
def errors_to(path: str) -> Iterator[None]:
    """Writes the log's errors to the file `path`, which is there once there is one, for the duration of a block."""
    handler = _ErrorFileHandler(path)
    logging.getLogger(_NAME).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(_NAME).removeHandler(handler)
        handler.close()


_MOST_MB = 1e9  # a larger file fits on no disk, and infinity into no whole number


def check_log_file(settings: Mapping[str, Any]) -> None:
    """Refuses settings that `logging_to` cannot use.

    Raises:
        ArgumentError: A key is unknown, or a value no number that makes sense.
    """
    for key, value in settings.items():
        if key not in ("max_mb", "backups"):
            raise ArgumentError(
                f"log_file has no '{key}'", key=key, found=value, suggestion=nearest(key, ("max_mb", "backups"))
            )
    check_count("backups", settings.get("backups", 1))
    size = settings.get("max_mb", 0)
    if isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 <= size <= _MOST_MB:
        raise ArgumentError("max_mb is a number of millions of bytes, 0 for no end", key="max_mb", found=size)


class _BoundedFileHandler(_OneComplaint, RotatingFileHandler):
    """Gives files that are full names that still end as a log's does.

    The standard library asks the file system four times before each line, here it is once.
    """

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802
        if self.maxBytes <= 0 or self.stream is None:
            return False
        size = os.fstat(self.stream.fileno()).st_size
        return size > 0 and size + len(self.format(record).encode("utf-8", "replace")) + 1 >= self.maxBytes

    def rotation_filename(self, default_name: str) -> str:
        path, _, number = default_name.rpartition(".")
        stem, suffix = os.path.splitext(path)
        return f"{stem}.{number}{suffix}"


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Shows nothing of the log for the duration of a block, and yields the list that its warnings go to."""
    logger, collector = logging.getLogger(_NAME), _Collector()
    before, propagate = logger.handlers[:], logger.propagate
    logger.handlers[:], logger.propagate = [collector], False
    try:
        yield collector.found
    finally:
        logger.handlers[:], logger.propagate = before, propagate


def add_log_file(logger: logging.Logger, path: str, mode: str = "a") -> logging.Handler:
    """Makes `logger` write to the file `path` as well, opened in `mode`, and returns the handler."""
    handler = _FileHandler(path, mode, encoding="utf-8")
    handler.setFormatter(_FORMAT)
    logger.addHandler(handler)
    return handler


def print_log(message: object, logger: Any = None, level: int = logging.INFO) -> None:
    """Logs `message`.

    Args:
        message: What to log.
        logger: A logger or its name; None prints, "silent" does nothing, "current" is footplate's own.
        level: A level of the logging module.
    """
    if logger is None:
        sys.stdout.write(printable(f"{message}\n"))
    elif logger == "silent":
        return
    elif isinstance(logger, logging.Logger):
        logger.log(level, message)
    else:
        logging.getLogger(_NAME if logger == "current" else logger).log(level, message)
