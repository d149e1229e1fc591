"""Collates samples into batches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate as torch_collate

from footplate.data.data_element import BaseDataElement
from footplate.errors import DataError
from footplate.registry import FUNCTIONS


@FUNCTIONS.register_module()
def pseudo_collate(samples: Sequence[Any]) -> Any:
    """Collates N samples with the same structure into lists of N values.

    Example:
        >>> pseudo_collate([dict(inputs=1, name="a"), dict(inputs=2, name="b")])
        {'inputs': [1, 2], 'name': ['a', 'b']}
    """
    return _collate(samples, list)


@FUNCTIONS.register_module()
def default_collate(samples: Sequence[Any]) -> Any:
    """Stacks tensors, arrays and numbers into tensors of shape ``(N, ...)``.

    Strings and data elements are collected in lists.

    Raises:
        DataError: The samples have different shapes or keys, or a value cannot be stacked.

    Example:
        >>> default_collate([(1.0, "a"), (2.0, "b")])
        [tensor([1., 2.], dtype=torch.float64), ['a', 'b']]
    """
    return _collate(samples, _stack)


def _collate(samples: Sequence[Any], collate_values: Callable[[Sequence[Any]], Any]) -> Any:
    """Collates nested samples. `collate_values` collates the innermost values.

    Strings and data elements are always collected in lists.
    """
    first = samples[0]
    if isinstance(first, (BaseDataElement, str, bytes)):
        return list(samples)
    if isinstance(first, Mapping):
        for sample in samples:
            if sample.keys() != first.keys():
                differing = sorted(map(str, first.keys() ^ sample.keys()))
                raise DataError("the samples in a batch have different keys", found=differing)
        return {key: _collate([sample[key] for sample in samples], collate_values) for key in first}
    if isinstance(first, Sequence):
        columns = [_collate(column, collate_values) for column in zip(*samples, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    return collate_values(samples)


def _stack(values: Sequence[Any]) -> Any:
    try:
        # In a worker, torch's collate would allocate separate shared memory for each stacked tensor.
        return torch.stack(list(values)) if isinstance(values[0], Tensor) else torch_collate(list(values))
    except (TypeError, RuntimeError, ValueError) as error:
        shapes = dict.fromkeys(tuple(value.shape) for value in values if isinstance(value, (Tensor, np.ndarray)))
        if len(shapes) > 1:
            raise DataError(
                "the samples in a batch have different shapes, so they cannot be stacked",
                found=list(shapes),
                notes=["Set collate_fn=dict(type='pseudo_collate') to keep them in a list."],
            ) from error
        raise DataError(f"values cannot be stacked: {error}") from error
