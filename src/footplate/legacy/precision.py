"""Decorators that first-generation models carry; the optimizer wrapper decides on precision now."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def auto_fp16(*args: Any, **kwargs: Any) -> Callable[[_Function], _Function]:
    """Returns a decorator that leaves a method as it is: under AmpOptimWrapper it runs in mixed precision anyway."""
    return lambda function: function


def force_fp32(*args: Any, **kwargs: Any) -> Callable[[_Function], Callable[..., Any]]:
    """Returns a decorator that runs a method outside of mixed precision, on arguments in float32."""

    def decorate(function: _Function) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*inputs: Any, **named: Any) -> Any:
            device = next((each.device.type for each in inputs if isinstance(each, torch.Tensor)), "cpu")
            if not torch.is_autocast_enabled(device):
                return function(*inputs, **named)
            with torch.autocast(device, enabled=False):
                return function(*map(_single, inputs), **{name: _single(each) for name, each in named.items()})

        return call

    return decorate


def wrap_fp16_model(model: torch.nn.Module) -> None:
    """Does nothing: AmpOptimWrapper keeps the weights in float32 and casts as it computes."""


def _single(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)([_single(each) for each in value])
    if isinstance(value, dict):
        return {key: _single(each) for key, each in value.items()}
    return value
