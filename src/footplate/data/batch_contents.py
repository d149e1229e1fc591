"""Splits the target off a batch, counts its samples, and converts its tensors."""

import copy
from collections.abc import Callable, Container, Mapping
from statistics import mode
from typing import Any

import numpy as np
from torch import Tensor

from footplate.errors import ArgumentError

TARGET_KEYS = ("labels", "label", "targets", "target", "y", "masks", "mask")


def has_target(batch: Any, inputs: Container[str] = ()) -> bool:
    """Checks whether `split_target` can split a batch."""
    return len(_target_keys(batch, inputs)) == 1


def _target_keys(batch: Any, inputs: Container[str]) -> list[Any]:
    """Returns the keys or indices of the entries that may be the target."""
    if isinstance(batch, Mapping):
        keys = [key for key in TARGET_KEYS if key in batch and key not in inputs]
        return [key for key in keys if "mask" not in key] or keys
    return [-1] if isinstance(batch, (list, tuple)) and len(batch) > 1 else []


def split_target(batch: Any, inputs: Container[str] = (), *, advice: str = "") -> tuple[Any, Any]:
    """Returns the inputs and the target of a batch.

    The target is the last entry of a list or tuple. In a dict, it is the value of the only key in `TARGET_KEYS` that is
    not in `inputs`. A mask is a target only if there is no other.

    Raises:
        ArgumentError: The batch has no target, or several keys that could be the target. `advice` is a note of the
            message.

    Example:
        >>> split_target(("image", "label"))
        (('image',), 'label')
        >>> split_target({"image": 1, "labels": 2})
        ({'image': 1}, 2)
    """
    keys = _target_keys(batch, inputs)
    if len(keys) != 1:
        names = " or ".join(map(repr, keys))
        raise ArgumentError(
            f"cannot tell {f'whether {names} is the target' if keys else 'which part of the batch is the target'}",
            found=list(batch) if isinstance(batch, Mapping) else type(batch),
            notes=[
                *filter(None, [advice]),
                f"Or use a tuple (inputs, target), or a dict with exactly one of the keys {', '.join(TARGET_KEYS)}.",
            ],
        )
    if not isinstance(batch, Mapping):
        return tuple(batch[:-1]), batch[-1]
    return {key: value for key, value in batch.items() if key != keys[0]}, batch[keys[0]]


def batch_size_of(batch: Any) -> int:
    """Returns the number of samples in a batch.

    In a list of dicts, each dict is one sample. For other batches, uses the first of these that exists: the length of
    the first tensor or array among the entries, the length of the first list, or the number of samples in the first
    dict. Otherwise, returns 1.

    Example:
        >>> batch_size_of({"images": ["a", "b", "c"], "labels": [0, 1, 0]}), batch_size_of(None)
        (3, 1)
        >>> batch_size_of((("left", "right"), np.zeros(4)))
        4
    """
    if isinstance(batch, list) and all(isinstance(sample, Mapping) for sample in batch):
        return len(batch)
    entries = _entries(batch)
    for entry in entries:
        if isinstance(entry, (Tensor, np.ndarray)) and entry.ndim:
            return len(entry)
    for entry in entries:
        if isinstance(entry, (list, tuple)):
            return len(entry)
    return next((batch_size_of(entry) for entry in entries if isinstance(entry, Mapping)), 1)


def _entries(batch: Any) -> list[Any]:
    if isinstance(batch, Mapping):
        return list(batch.values())
    return list(batch) if isinstance(batch, (list, tuple)) else [batch]


def scores_of(output: Any) -> Any:
    """Returns the `logits` of an output that has them, like those of transformers models, or else the output."""
    return getattr(output, "logits", output)


def count_samples(batch: Any, predictions: Any) -> int:
    """Returns the number of samples in a validation batch: the most frequent of three lengths, or else the first.

    | length of | right for | wrong for |
    |---|---|---|
    | the target | a label or mask for each sample | the boxes of all images in one tensor |
    | the predictions | a list or tensor with an entry for each sample | a tensor with a row for each token or box |
    | the batch (see `batch_size_of`) | a first tensor with a row for each sample | a first tensor such as anchors |

    A tensor of predictions that is as long as no entry of the batch comes last. Ignores lists of tensors, which may
    contain one tensor for each output of the model. Returns 0 for an empty batch.

    Example:
        >>> count_samples({"scale": np.ones(3), "image": np.ones((2, 8)), "label": np.zeros(2)}, {"score": None})
        2
        >>> count_samples((np.ones((2, 8)), "boxes of all images"), [{"score": 0.5}, {"score": 0.25}])
        2
    """
    keys = _target_keys(batch, ())
    target = batch[keys[0]] if len(keys) == 1 else None
    lengths = [_length(predictions), batch_size_of(batch)]
    known = set(map(_length, _entries(batch))) - {0}
    if known and not isinstance(predictions, list) and lengths[0] not in known:
        lengths.reverse()
    return mode(list(filter(None, [_length(target), *lengths])) or [0])


def _length(values: Any) -> int:
    """Returns the number of samples in a target or in predictions, or 0 if it is unknown."""
    if isinstance(values, (Tensor, np.ndarray)):
        return len(values) if values.ndim else 0
    return len(values) if isinstance(values, list) and not any(isinstance(value, Tensor) for value in values) else 0


def map_tensors(data: Any, change: Callable[[Any], Any]) -> Any:
    """Applies `change` to every tensor in nested dicts, lists and tuples, and returns the result as a copy.

    Also applies `change` to all other objects that have a `to` method.
    """
    if isinstance(data, Tensor):
        return change(data)
    if isinstance(data, dict):
        changed = copy.copy(data)  # keeps the type, which code bases may check
        for key, value in data.items():
            changed[key] = change(value) if isinstance(value, Tensor) else map_tensors(value, change)
        return changed
    if isinstance(data, (list, tuple)):
        values = [change(value) if isinstance(value, Tensor) else map_tensors(value, change) for value in data]
        return type(data)(*values) if hasattr(data, "_fields") else type(data)(values)
    # Metadata may contain classes.
    return change(data) if hasattr(data, "to") and not isinstance(data, type) else data


def describe(data: Any) -> Any:
    """Returns a batch or other nested data, with a string for each tensor's dtype and shape, e.g. "float32[16, 8]".

    Objects that are not tensors, numbers, bools or None become the name of their class.

    Example:
        >>> import torch
        >>> describe([{"image": torch.zeros(2, 3), "name": "a"}, None])
        [{'image': 'float32[2, 3]', 'name': 'str'}, None]
    """
    if isinstance(data, Tensor):
        return f"{str(data.dtype).removeprefix('torch.')}{list(data.shape)}"
    if isinstance(data, Mapping):
        return {str(key): describe(value) for key, value in data.items()}
    if type(data) in (list, tuple):
        return type(data)(describe(value) for value in data)
    if data is None or type(data) in (bool, int, float):
        return data
    return type(data).__name__
