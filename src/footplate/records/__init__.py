"""Records the scalars, logs and environment of a run."""

from footplate.records.artifact_writers import ClearMLVisBackend, DVCLiveVisBackend, MLflowVisBackend
from footplate.records.base_writer import BaseVisBackend, ImageArray, numbers_in
from footplate.records.environment import describe_environment, describe_opencv, memory_in_use, save_changes
from footplate.records.history_buffer import HistoryBuffer, average_over_ranks
from footplate.records.local_writers import (
    LAYOUT_TEXT,
    LocalVisBackend,
    MetricStep,
    TensorboardVisBackend,
    is_written_config,
    write_config,
)
from footplate.records.log_processor import LogProcessor, format_eta
from footplate.records.logger import (
    NOT_SHOWN,
    add_log_file,
    buffer_log,
    check_level,
    get_logger,
    logging_to,
    set_level,
    surviving_streams,
)
from footplate.records.message_hub import Instances, MessageHub, recorded_name
from footplate.records.wandb_writers import WandbVisBackend

__all__ = [
    "BaseVisBackend",
    "ClearMLVisBackend",
    "DVCLiveVisBackend",
    "HistoryBuffer",
    "ImageArray",
    "Instances",
    "LAYOUT_TEXT",
    "LocalVisBackend",
    "LogProcessor",
    "MLflowVisBackend",
    "MessageHub",
    "MetricStep",
    "NOT_SHOWN",
    "TensorboardVisBackend",
    "WandbVisBackend",
    "add_log_file",
    "average_over_ranks",
    "describe_environment",
    "describe_opencv",
    "format_eta",
    "get_logger",
    "logging_to",
    "memory_in_use",
    "numbers_in",
    "recorded_name",
    "buffer_log",
    "check_level",
    "save_changes",
    "set_level",
    "surviving_streams",
    "is_written_config",
    "write_config",
]
