"""What a run measures of itself and of its environment."""

from footplate.records.environment import describe_environment, memory_in_use
from footplate.records.history import HistoryBuffer
from footplate.records.hub import MessageHub
from footplate.records.instances import Instances
from footplate.records.lengths import length_of
from footplate.records.logger import add_log_file, get_logger, logging_to, print_log, set_level
from footplate.records.processor import LogProcessor
from footplate.records.writers import (
    BaseVisBackend,
    LocalVisBackend,
    MLflowVisBackend,
    TensorboardVisBackend,
    WandbVisBackend,
    write_config,
)

__all__ = [
    "BaseVisBackend",
    "HistoryBuffer",
    "Instances",
    "LocalVisBackend",
    "LogProcessor",
    "MLflowVisBackend",
    "MessageHub",
    "TensorboardVisBackend",
    "WandbVisBackend",
    "add_log_file",
    "describe_environment",
    "get_logger",
    "length_of",
    "logging_to",
    "memory_in_use",
    "print_log",
    "set_level",
    "write_config",
]
