"""Undoes the changes that a forward pass or training step makes to a model."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from footplate.data import capture_rng, restore_rng
from footplate.distributed import unwrap_model

_logger = logging.getLogger("footplate.engine")
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


def plain_tensors(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Returns the identity and version of each tensor that is a plain attribute of a module.

    Leaves out modules that compute their tensors before each forward pass (such as those with weight normalization,
    which is a forward pre-hook), or that save them with `get_extra_state`.
    """
    return {
        f"{path}.{name}".lstrip("."): (id(value), value._version)
        for path, module in unwrap_model(model).named_modules()
        if not module._forward_pre_hooks and type(module).get_extra_state is nn.Module.get_extra_state
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and not (value.requires_grad or value.is_inference())
    }


def warn_of_lost_tensors(before: dict[str, tuple[int, int]], model: nn.Module) -> None:
    """Logs a warning, once, if tensors that no checkpoint contains have changed since training began.

    Args:
        before: What `plain_tensors` returned then. Cleared after the warning.
        model: The model.
    """
    lost = [name for name, tensor in plain_tensors(model).items() if before.get(name, tensor) != tensor]
    if lost:
        before.clear()
        _logger.warning(
            "Training changes tensors that checkpoints do not contain, so a resumed run loses them: %s. To save a "
            "tensor, use self.register_buffer(name, tensor) in the module.",
            ", ".join(lost),
        )
