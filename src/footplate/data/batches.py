"""Determines the target and the number of samples of a batch from a plain torch loader."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from footplate.errors import ArgumentError

TARGET_KEYS = ("labels", "label", "targets", "target", "y")


def has_target(batch: Any) -> bool:
    """Checks whether `split_target` can split a batch."""
    if isinstance(batch, Mapping):
        return sum(key in batch for key in TARGET_KEYS) == 1
    return isinstance(batch, (list, tuple)) and len(batch) > 1


def split_target(batch: Any) -> tuple[Any, Any]:
    """Returns the inputs and the target of a batch.

    The target is the last entry of a list or tuple. In a dict, it is the value of the only key in `TARGET_KEYS`.

    Raises:
        ArgumentError: The batch has no target, or several keys that could be the target.

    Example:
        >>> split_target(("image", "label"))
        (('image',), 'label')
        >>> split_target({"image": 1, "labels": 2})
        ({'image': 1}, 2)
    """
    if not has_target(batch):
        raise ArgumentError(
            "cannot tell which part of the batch is the target",
            found=list(batch) if isinstance(batch, Mapping) else type(batch),
            notes=[
                f"Use a tuple (inputs, target), a dict with exactly one of the keys {', '.join(TARGET_KEYS)},",
                "or pass `training_step` and metrics that are functions of (predictions, batch).",
            ],
        )
    if not isinstance(batch, Mapping):
        return tuple(batch[:-1]), batch[-1]
    target = next(key for key in TARGET_KEYS if key in batch)
    return {key: value for key, value in batch.items() if key != target}, batch[target]


def batch_size_of(batch: Any) -> int:
    """Returns the number of samples in a batch.

    In a list of dicts, each dict is one sample. For any other batch, returns the first available of these: the length
    of the first tensor or array among the entries, the length of the first list, the number of samples in the first
    dict, or 1.

    Example:
        >>> batch_size_of({"images": ["a", "b", "c"], "labels": [0, 1, 0]}), batch_size_of(None)
        (3, 1)
        >>> batch_size_of((("left", "right"), np.zeros(4)))
        4
    """
    if isinstance(batch, list) and batch and all(isinstance(each, Mapping) for each in batch):
        return len(batch)
    several = isinstance(batch, (Mapping, list, tuple))
    entries = list(batch.values() if isinstance(batch, Mapping) else batch) if several else [batch]
    for each in entries:
        if isinstance(each, (Tensor, np.ndarray)) and each.ndim:
            return len(each)
    for each in entries:
        if isinstance(each, (list, tuple)):
            return len(each)
    return next((batch_size_of(each) for each in entries if isinstance(each, Mapping)), 1)
