"""`MMLogger`: loggers that OpenMMLab packages look up by name. They write to footplate's log."""

import logging
from typing import Any

from typing_extensions import Self

from footplate.hosts.mmengine.managers import ManagerMixin
from footplate.records import get_logger


class MMLogger(logging.Logger, ManagerMixin):
    """A logger whose records go to the screen and the log file of the run.

    Args:
        name: The name for `get_instance`.
        logger_name: The name that log lines show.
        log_file: An additional file for the records of this logger.
        log_level: The minimum level of records to log.
        file_mode: The mode in which the file is opened.
        distributed: Ignored; footplate's log determines which processes write.
        file_handler_cfg: Ignored; footplate's log rotates its own file.
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
        ManagerMixin.__init__(self, name)
        self.parent = get_logger("hosts")
        self._log_file = log_file
        if log_file is not None:
            handler = logging.FileHandler(log_file, file_mode, encoding="utf-8", delay=True)
            handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
            self.addHandler(handler)

    @property
    def log_file(self) -> str | None:
        """The file of this logger."""
        return self._log_file

    @classmethod
    def get_current_instance(cls) -> Self:
        """Returns the instance that was created last. Creates one named "mmengine" if there are no instances."""
        if not cls._instance_dict:
            cls.get_instance("mmengine")
        return super().get_current_instance()
