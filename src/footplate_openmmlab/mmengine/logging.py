"""`MMLogger` and `print_log`, which write to footplate's log."""

import logging
import sys
from typing import Any

from footplate.distributed import get_rank
from footplate.messages import printable
from footplate.records import Instances, add_log_file, get_logger, set_level


class MMLogger(logging.Logger, Instances):
    """A logger that writes to the console and to the run's log file.

    Args:
        name: The name for `get_instance`.
        logger_name: The name shown in log lines.
        log_file: An additional log file for this logger.
        log_level: The minimum level.
        file_mode: The mode for opening the file.
        distributed: Ignored; footplate's log determines which processes write.
        file_handler_cfg: Ignored.
    """

    def __init__(
        self,
        name: str,
        logger_name: str = "mmengine",
        log_file: str | None = None,
        log_level: int | str = "INFO",
        file_mode: str = "w",
        distributed: bool = False,
        file_handler_cfg: dict[str, Any] | None = None,
    ) -> None:
        logging.Logger.__init__(self, logger_name, log_level)
        Instances.__init__(self, name)
        self.parent = get_logger("footplate.openmmlab")
        _show_log()
        self.log_file = log_file
        if log_file is not None:
            add_log_file(self, log_file, file_mode)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        """Checks whether a level is enabled, without the cache, which `logging.disable` does not clear here."""
        return level > self.manager.disable and level >= self.getEffectiveLevel()


def _show_log() -> None:
    """Shows the log on the screen in a script that logs without a run, such as a tool that reads a dataset."""
    if not get_logger().handlers:
        set_level(logging.INFO, screen=get_rank() == 0)


def print_log(message: object, logger: Any = None, level: int = logging.INFO) -> None:
    """Logs or prints `message`.

    Args:
        message: The message.
        logger: A logger, the name of an MMLogger, or the name of a child of footplate's logger. None prints to stdout,
            "silent" does nothing, and "current" uses footplate's logger.
        level: A level of the `logging` module.
    """
    if logger is None:
        sys.stdout.write(printable(f"{message}\n"))
    elif isinstance(logger, logging.Logger):
        logger.log(level, message)
    elif MMLogger.check_instance_created(logger):
        MMLogger.get_instance(logger).log(level, message)
    elif logger != "silent":
        _show_log()
        child = "" if logger == "current" else str(logger).removeprefix("footplate.")
        logging.getLogger(f"footplate.{child}".rstrip(".")).log(level, message)
