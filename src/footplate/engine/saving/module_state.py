"""Records the attributes of modules that are not in their state dicts."""

import logging
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from footplate.data import capture_rng, restore_rng
from footplate.distributed import unwrap_model
from footplate.models import PlainModel

_logger = logging.getLogger("footplate.engine")
_OF_EVERY_MODULE = vars(nn.Module()).keys()  # such as `training`
_PLAIN_TYPES = (bool, int, float, complex, str, NoneType)


def record_forward_state(model: nn.Module) -> Callable[[], None]:
    """Records a model's gradients, buffers and plain attributes, and the random state.

    Plain attributes are numbers, bools, strings and None.

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
            if name in vars(module):  # otherwise, a submodule has replaced it
                vars(module)[name] = value
        restore_rng(rng)

    return restore


class ModuleNumbers:
    """Saves the numbers, None and tuples of these in attributes of modules that training changes.

    For example, the input size of YOLOX and counters of iterations. Leaves out bools, which often mean that something
    has been prepared in this process, and modules in which training also replaces other attributes: their numbers may
    be the keys of a cache, which a checkpoint does not contain.

    Args:
        model: The model, before training.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = {name: module for name, module in model.named_modules() if not isinstance(module, PlainModel)}
        self._initial = {name: _attributes_of(module) for name, module in self._modules.items()}

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Returns the attributes that have changed, keyed by module name."""
        changed = {}
        for name, module in self._modules.items():
            (numbers, others), (initial, initial_others) = _attributes_of(module), self._initial[name]
            if others == initial_others and not _saves_more(module):
                changed[name] = dict(numbers.items() - initial.items())
        return {name: values for name, values in changed.items() if values}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restores the attributes that `state_dict` returned. Ignores modules that no longer exist."""
        for name in state.keys() & self._modules:
            vars(self._modules[name]).update(state[name])


def _attributes_of(module: nn.Module) -> tuple[dict[str, Any], dict[str, int]]:
    """Returns the attributes that are numbers, and the identities of the others."""
    attributes = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
    numbers = {key: value for key, value in attributes.items() if _is_number(value)}
    return numbers, {key: id(value) for key, value in attributes.items() if key not in numbers}


def _is_number(value: Any) -> bool:
    return all(map(_is_number, value)) if type(value) is tuple else type(value) in (int, float, NoneType)


def _saves_more(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state


def plain_tensors(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Returns the identity and version of each tensor that is a plain attribute of a module.

    Leaves out modules that compute their tensors before each forward pass (such as those with weight normalization,
    which is a forward pre-hook), or that save them with `get_extra_state`.
    """
    return {
        f"{path}.{name}".lstrip("."): (id(value), value._version)
        for path, module in unwrap_model(model).named_modules()
        if not (module._forward_pre_hooks or _saves_more(module))
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
