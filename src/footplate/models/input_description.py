"""Describes the inputs of a module, so that example inputs can be made from the description later."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def describe_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Describes inputs as plain data, with a string for each tensor's dtype and shape, e.g. "float32[16, 8]".

    Returns an empty dict if the inputs contain anything other than tensors, numbers, bools and None.

    Example:
        >>> import torch
        >>> describe_inputs((torch.zeros(2, 3),), {"scale": 2})
        {'args': ('float32[2, 3]',), 'kwargs': {'scale': 2}}
    """
    try:
        return {"args": _described(args), "kwargs": _described(dict(kwargs))}
    except TypeError:
        return {}


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, Mapping):
        return {str(key): _described(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_described, value))
    if value is None or type(value) in (bool, int, float):
        return value
    raise TypeError
