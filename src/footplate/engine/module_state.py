"""Undoes the changes that a forward pass or training step makes to a model."""

from collections.abc import Callable

import torch
from torch import nn

from footplate.data import capture_rng, restore_rng
from footplate.distributed import unwrap_model

_PLAIN_TYPES = (bool, int, float, complex, str)


def record_forward_state(model: nn.Module) -> Callable[[], None]:
    """Records a model's gradients, buffers and plain attributes, and the random state.

    Plain attributes are numbers, bools and strings.

    Returns:
        A function that restores the recorded state.
    """
    rng = capture_rng()
    modules = list(unwrap_model(model).modules())
    buffers = [
        (module._buffers, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
    ]
    gradients = [(weight, None if weight.grad is None else weight.grad.clone()) for weight in model.parameters()]
    attributes = [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if type(value) in _PLAIN_TYPES
    ]

    def restore() -> None:
        with torch.no_grad():
            for owner, name, buffer, value in buffers:
                owner[name] = buffer  # the module may have replaced the tensor
                if buffer is not None:
                    buffer.copy_(value)  # type: ignore[arg-type] # both are None or neither
        for weight, gradient in gradients:
            weight.grad = gradient
        for module, name, value in attributes:
            vars(module)[name] = value
        restore_rng(rng)

    return restore
