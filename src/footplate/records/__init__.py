"""What a run measures of itself and of its environment."""

from footplate.records.environment import describe_environment, memory_in_use
from footplate.records.history import HistoryBuffer
from footplate.records.hub import MessageHub
from footplate.records.instances import Instances
from footplate.records.lengths import length_of
from footplate.records.logger import get_logger, log_to_file, print_log, set_level
from footplate.records.processor import LogProcessor
from footplate.records.writers import BaseVisBackend, LocalVisBackend, TensorboardVisBackend, write_config

__all__ = [
    "BaseVisBackend",
    "HistoryBuffer",
    "Instances",
    "LocalVisBackend",
    "LogProcessor",
    "MessageHub",
    "TensorboardVisBackend",
    "describe_environment",
    "get_logger",
    "length_of",
    "log_to_file",
    "memory_in_use",
    "print_log",
    "set_level",
    "write_config",
]
