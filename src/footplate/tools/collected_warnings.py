"""Hides the log of a `with` block and collects its warnings."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from footplate.records.logger import ScreenHandler


class _WarningCollector(ScreenHandler):
    """A log handler that collects each distinct warning instead of printing it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno == logging.WARNING and message not in self.messages:
            self.messages.append(message)


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Hides the log for the duration of the block, and yields a list that collects the warnings."""
    logger, collector = logging.getLogger("footplate"), _WarningCollector()
    before, propagate = logger.handlers[:], logger.propagate
    logger.handlers[:], logger.propagate = [collector], False
    try:
        yield collector.messages
    finally:
        logger.handlers[:], logger.propagate = before, propagate


@contextmanager
def collect_library_warnings() -> Iterator[dict[str, None]]:
    """Collects the distinct Python warnings of the block, such as those of installed packages, instead of printing."""
    collected: dict[str, None] = {}

    def collect(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        place = re.sub(r".*[\\/]site-packages[\\/]", "", filename)
        collected[f"{place}:{lineno}: {category.__name__}: {' '.join(str(message).split())}"] = None

    with warnings.catch_warnings():
        warnings.showwarning = collect
        yield collected
