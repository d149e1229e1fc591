"""Small functions of mmcv that first-generation code imports: type checks, loggers and process ranks."""

import logging
import os
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm

from footplate.distributed import get_rank, get_world_size, initialize, unwrap_model
from footplate.records import add_log_file
from footplate.records import get_logger as _get_logger

__all__ = [
    "BatchNorm",
    "InstanceNorm",
    "get_dist_info",
    "get_logger",
    "get_model",
    "get_root_logger",
    "init_dist",
    "is_list_of",
    "is_seq_of",
    "is_str",
    "is_tuple_of",
]


def is_seq_of(seq: Any, expected_type: Any, seq_type: type | None = None) -> bool:
    """Checks whether `seq` is a sequence, or a `seq_type`, in which every item is an `expected_type`."""
    container: type[Any] = seq_type or Sequence
    return isinstance(seq, container) and all(isinstance(item, expected_type) for item in seq)


def is_list_of(seq: Any, expected_type: Any) -> bool:
    """Checks whether `seq` is a list in which every item is an `expected_type`."""
    return is_seq_of(seq, expected_type, list)


def is_tuple_of(seq: Any, expected_type: Any) -> bool:
    """Checks whether `seq` is a tuple in which every item is an `expected_type`."""
    return is_seq_of(seq, expected_type, tuple)


def is_str(value: Any) -> bool:
    """Checks whether `value` is a string."""
    return isinstance(value, str)


def get_model(model: nn.Module) -> nn.Module:
    """Returns the model inside all wrappers."""
    return unwrap_model(model)


def get_dist_info(group: Any = None) -> tuple[int, int]:
    """Returns the rank of this process and the world size."""
    return get_rank(), get_world_size()


def init_dist(launcher: str, backend: str | None = None, **options: Any) -> None:
    """Initializes the process group; of `options`, only `timeout` and `port` have an effect."""
    known = {key: value for key, value in options.items() if key in ("timeout", "port")}
    initialize(launcher, {**({} if backend is None else {"backend": backend}), **known} or None)


def get_logger(
    name: str, log_file: str | None = None, log_level: int = logging.INFO, file_mode: str = "w"
) -> logging.Logger:
    """Returns a child of footplate's logger, which writes to the same outputs.

    Args:
        name: The name of the child.
        log_file: An additional file to write to.
        log_level: The log level.
        file_mode: The mode in which the file is unpack_containers.
    """
    return _configured(_get_logger(f"footplate.{name}"), log_file, log_level, file_mode)


def get_root_logger(log_file: str | None = None, log_level: int = logging.INFO) -> logging.Logger:
    """Returns footplate's logger.

    Args:
        log_file: An additional file to write to.
        log_level: The log level.
    """
    return _configured(_get_logger(), log_file, log_level, "w")


def _configured(logger: logging.Logger, log_file: str | None, log_level: int, file_mode: str) -> logging.Logger:
    if log_file is not None:
        # First-generation code often requests the same logger several times.
        known = [each.baseFilename for each in logger.handlers if isinstance(each, logging.FileHandler)]
        if os.path.abspath(log_file) not in known:
            add_log_file(logger, log_file, file_mode)
    logger.setLevel(log_level)
    return logger
