"""Undoes the changes that a forward pass or training step makes to a model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from footplate.data import capture_rng, restore_rng
from footplate.distributed import unwrap_model

_PLAIN_TYPES = (bool, int, float, complex, str)


def record_modules(model: nn.Module) -> Callable[[], None]:
    """Records a model's gradients, buffers and plain attributes, and the random state.

    Plain attributes are those whose values are numbers, bools or strings.

    Returns:
        A function that restores the recorded state.
    """
    rng, modules = capture_rng(), list(unwrap_model(model).modules())
    buffers = [(each, name, buffer) for each in modules for name, buffer in each.named_buffers(recurse=False)]
    values = [buffer.detach().clone() for *_, buffer in buffers]
    gradients = [(each, None if each.grad is None else each.grad.clone()) for each in model.parameters()]
    plain: list[dict[str, Any]] = [
        {key: value for key, value in vars(each).items() if type(value) in _PLAIN_TYPES} for each in modules
    ]

    def restore() -> None:
        with torch.no_grad():
            for (module, name, buffer), value in zip(buffers, values, strict=True):
                buffer.copy_(value)
                setattr(module, name, buffer)  # the module may have replaced the tensor
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, attributes in zip(modules, plain, strict=True):
            vars(module).update(attributes)
        restore_rng(rng)

    return restore
