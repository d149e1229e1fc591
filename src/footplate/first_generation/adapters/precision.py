"""The precision decorators of first-generation models; `AmpOptimWrapper` controls mixed precision now."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def auto_fp16(*args: Any, **kwargs: Any) -> Callable[[_Function], _Function]:
    """Returns a decorator without effect; with AmpOptimWrapper, the method runs in mixed precision anyway."""
    return lambda function: function


def force_fp32(*args: Any, **kwargs: Any) -> Callable[[_Function], Callable[..., Any]]:
    """Returns a decorator that disables mixed precision for a method and casts its arguments to float32."""

    def decorate(function: _Function) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*inputs: Any, **named: Any) -> Any:
            device = next((each.device.type for each in inputs if isinstance(each, torch.Tensor)), "cpu")
            if not torch.is_autocast_enabled(device):
                return function(*inputs, **named)
            with torch.autocast(device, enabled=False):
                return function(*map(_to_float32, inputs), **{name: _to_float32(each) for name, each in named.items()})

        return call

    return decorate


def wrap_fp16_model(model: torch.nn.Module) -> None:
    """Does nothing; AmpOptimWrapper keeps the weights in float32 and uses autocast."""


def _to_float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)([_to_float32(each) for each in value])
    if isinstance(value, dict):
        return {key: _to_float32(each) for key, each in value.items()}
    return value
