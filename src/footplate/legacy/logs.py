"""Loggers as first-generation code asks for them."""

import logging

from footplate.records import get_logger as _get_logger
from footplate.records import log_to_file


def get_logger(
    name: str, log_file: str | None = None, log_level: int = logging.INFO, file_mode: str = "w"
) -> logging.Logger:
    """Returns a logger below footplate's own, so that it writes where that writes.

    Args:
        name: Its name.
        log_file: A file that everything is written to as well.
        log_level: What it lets through.
        file_mode: Known to existing code; the file is appended to.
    """
    if log_file is not None:
        log_to_file(log_file)
    logger = _get_logger(f"footplate.{name}")
    logger.setLevel(log_level)
    return logger


def get_root_logger(log_file: str | None = None, log_level: int = logging.INFO) -> logging.Logger:
    """Returns footplate's logger.

    Args:
        log_file: A file that everything is written to as well.
        log_level: What it lets through.
    """
    if log_file is not None:
        log_to_file(log_file)
    logger = _get_logger()
    logger.setLevel(log_level)
    return logger
