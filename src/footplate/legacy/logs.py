"""Loggers as first-generation code asks for them."""

import logging
import os

from footplate.records import add_log_file
from footplate.records import get_logger as _get_logger


def get_logger(
    name: str, log_file: str | None = None, log_level: int = logging.INFO, file_mode: str = "w"
) -> logging.Logger:
    """Returns a logger below footplate's own, so that it writes where that writes.

    Args:
        name: Its name.
        log_file: A file that it writes to as well.
        log_level: What it lets through.
        file_mode: How the file is opened.
    """
    logger = _get_logger(f"footplate.{name}")
    _add_once(logger, log_file, file_mode)
    logger.setLevel(log_level)
    return logger


def get_root_logger(log_file: str | None = None, log_level: int = logging.INFO) -> logging.Logger:
    """Returns footplate's logger.

    Args:
        log_file: A file that it writes to as well.
        log_level: What it lets through.
    """
    logger = _get_logger()
    _add_once(logger, log_file, "w")
    logger.setLevel(log_level)
    return logger


def _add_once(logger: logging.Logger, path: str | None, mode: str) -> None:
    """Adds the file, unless the logger writes to it already: existing code asks for its logger again and again."""
    if path is None:
        return
    known = [each.baseFilename for each in logger.handlers if isinstance(each, logging.FileHandler)]
    if os.path.abspath(path) not in known:
        add_log_file(logger, path, mode)
