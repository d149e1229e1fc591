"""Records the scalars, logs and environment of a run."""

from footplate.records.environment import describe_environment, memory_in_use
from footplate.records.history import HistoryBuffer
from footplate.records.hub import MessageHub
from footplate.records.instances import Instances
from footplate.records.lengths import length_of
from footplate.records.logger import (
    NOT_SHOWN,
    OF_ITERATION,
    add_log_file,
    check_level,
    check_log_file,
    errors_to,
    get_logger,
    logging_to,
    print_log,
    remembered,
    set_level,
    show_iterations,
)
from footplate.records.processor import LogProcessor
from footplate.records.reserved import ScalarNames
from footplate.records.streams import surviving_streams
from footplate.records.writers import (
    AimVisBackend,
    BaseVisBackend,
    ClearMLVisBackend,
    DVCLiveVisBackend,
    GuardedWriters,
    LocalVisBackend,
    MLflowVisBackend,
    NeptuneVisBackend,
    SwanlabVisBackend,
    TensorboardVisBackend,
    TrackioVisBackend,
    WandbVisBackend,
    is_written_config,
    numbers_in,
    write_config,
)

__all__ = [
    "AimVisBackend",
    "BaseVisBackend",
    "ClearMLVisBackend",
    "DVCLiveVisBackend",
    "GuardedWriters",
    "HistoryBuffer",
    "Instances",
    "LocalVisBackend",
    "LogProcessor",
    "MLflowVisBackend",
    "MessageHub",
    "NOT_SHOWN",
    "OF_ITERATION",
    "NeptuneVisBackend",
    "ScalarNames",
    "SwanlabVisBackend",
    "TensorboardVisBackend",
    "TrackioVisBackend",
    "WandbVisBackend",
    "add_log_file",
    "check_log_file",
    "describe_environment",
    "get_logger",
    "length_of",
    "errors_to",
    "logging_to",
    "memory_in_use",
    "numbers_in",
    "print_log",
    "remembered",
    "check_level",
    "set_level",
    "show_iterations",
    "surviving_streams",
    "is_written_config",
    "write_config",
]
