"""Collects the warnings of a block instead of showing its log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from footplate.records.logger import ScreenHandler


class _WarningCollector(ScreenHandler):
    """Collects warnings instead of showing log records."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Hides the log for the duration of a block, and collects its warnings in a list."""
    logger, collector = logging.getLogger("footplate"), _WarningCollector()
    before, propagate = logger.handlers[:], logger.propagate
    logger.handlers[:], logger.propagate = [collector], False
    try:
        yield collector.messages
    finally:
        logger.handlers[:], logger.propagate = before, propagate
