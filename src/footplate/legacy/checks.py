"""Small questions that first-generation code asks of its arguments."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm

from footplate.distributed import unwrap_model

__all__ = ["BatchNorm", "InstanceNorm", "get_model", "is_list_of", "is_seq_of", "is_str", "is_tuple_of"]


def is_seq_of(seq: Any, expected_type: Any, seq_type: type | None = None) -> bool:
    """Checks whether `seq` is a sequence, or a `seq_type`, of which every item is an `expected_type`."""
    container: type[Any] = seq_type or Sequence
    return isinstance(seq, container) and all(isinstance(item, expected_type) for item in seq)


def is_list_of(seq: Any, expected_type: Any) -> bool:
    """Checks whether `seq` is a list of which every item is an `expected_type`."""
    return is_seq_of(seq, expected_type, list)


def is_tuple_of(seq: Any, expected_type: Any) -> bool:
    """Checks whether `seq` is a tuple of which every item is an `expected_type`."""
    return is_seq_of(seq, expected_type, tuple)


def is_str(value: Any) -> bool:
    """Checks whether `value` is a string."""
    return isinstance(value, str)


def get_model(model: nn.Module) -> nn.Module:
    """Returns the model inside all wrappers."""
    return unwrap_model(model)
