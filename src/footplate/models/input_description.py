"""Describes the inputs of a module, so that example inputs can be made from the description later."""

from collections.abc import Mapping
from typing import Any

from footplate.data.batch_contents import describe


def describe_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Describes inputs as plain data, with a string for each tensor's dtype and shape, e.g. "float32[16, 8]".

    Returns an empty dict if the inputs contain anything other than tensors, numbers, bools and None.

    Example:
        >>> import torch
        >>> describe_inputs((torch.zeros(2, 3),), {"scale": 2})
        {'args': ('float32[2, 3]',), 'kwargs': {'scale': 2}}
    """
    try:
        return {"args": describe(args, is_strict=True), "kwargs": describe(kwargs, is_strict=True)}
    except TypeError:
        return {}
