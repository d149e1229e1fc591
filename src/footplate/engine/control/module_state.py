"""Records the attributes of modules that are not in their state dicts."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn

from footplate.data import capture_rng, restore_rng
from footplate.distributed import get_world_size, unwrap_model
from footplate.models import PlainModel

_logger = logging.getLogger("footplate.engine")
_OF_EVERY_MODULE = vars(nn.Module()).keys()  # such as `training`
_PLAIN_TYPES = (bool, int, float, complex, str, NoneType)
_CONTAINERS = (list, dict, set, deque)
_MOST_BYTES = 64 * 2**20  # of a tensor that is saved; larger ones are likely caches or features


def record_forward_state(model: nn.Module, *, gradients: bool = True) -> Callable[[], None]:
    """Records a model's buffers and plain attributes, its `gradients`, and the random state.

    Plain attributes are numbers, bools, strings, None, and tensors without gradients.

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
    weights = model.parameters() if gradients else ()
    recorded = [(weight, None if weight.grad is None else weight.grad.clone()) for weight in weights]
    attributes = [
        (module, name, value)
        for module in modules
        for name, value in vars(module).items()
        if type(value) in _PLAIN_TYPES or _is_plain_tensor(value)
    ]
    tensors = [(value, value.clone()) for _, _, value in attributes if isinstance(value, Tensor)]
    names = [(module, {*vars(module)}) for module in modules]

    def restore() -> None:
        with torch.no_grad():
            for owner, name, buffer, value in buffers:
                owner[name] = buffer  # the module may have replaced the tensor
                if buffer is not None:
                    buffer.copy_(value)  # type: ignore[arg-type] # both are None or neither
            for tensor, content in tensors:
                if 0 not in tensor.stride():  # an expanded tensor cannot be written to
                    tensor.copy_(content)
        for weight, gradient in recorded:
            weight.grad = gradient
        for module, name, value in attributes:
            if name in vars(module):  # otherwise, a submodule has replaced it
                vars(module)[name] = value
        for module, before in names:
            for name in _tensors_of(module).keys() - before:
                del vars(module)[name]
        restore_rng(rng)

    return restore


class ModuleAttributes:
    """Saves attributes of modules that training changes and that are neither parameters nor buffers.

    Saves numbers, None and tuples of these, such as the input size of YOLOX and counters of iterations. On a single
    process, also saves tensors that did not exist before training, such as a memory of earlier frames, unless they are
    very large. They are restored if the run continues with one process and the same batch size. Leaves out bools, which
    often mean that something has been prepared in this process, and modules in which training also changes other
    attributes: their numbers may be the keys of a cache, which a checkpoint does not contain.

    Args:
        model: The model, before training.
        device: The device of the model.

    Attributes:
        restores_tensors: Whether `load_state_dict` restores tensors, which fit only the batches of the saved run.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self.restores_tensors = True
        self._model = model
        self._at_start: dict[str, tuple[int, int]] | None = None  # what `_plain_tensors` returned when training began
        self._modules = {name: module for name, module in model.named_modules() if not isinstance(module, PlainModel)}
        self._initial = {name: (_numbers_of(module), _others_of(module)) for name, module in self._modules.items()}

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Returns the attributes that have changed, keyed by module name."""
        changed = {}
        for name, module in self._modules.items():
            if _saves_more(module):
                continue
            numbers, others = self._initial[name]
            new = {key: value for key, value in _tensors_of(module).items() if key not in others}
            new = {key: value for key, value in new.items() if value.nbytes <= _MOST_BYTES}
            if get_world_size() > 1:  # a checkpoint contains the attributes of one process
                new = {}
            if {key: value for key, value in _others_of(module).items() if key not in new} == others:
                changed[name] = dict(_numbers_of(module).items() - numbers.items())
                changed[name] |= {key: (value, value.device.type) for key, value in new.items()}
        return {name: values for name, values in changed.items() if values}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Restores the attributes that `state_dict` returned. Ignores modules that no longer exist."""
        for name in state.keys() & self._modules:
            attributes = vars(self._modules[name])
            for key, value in state[name].items():
                if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
                    tensor, device = value
                    if self.restores_tensors:
                        attributes[key] = tensor.to("cpu" if device == "cpu" else self._device, copy=True)
                else:
                    attributes[key] = value

    def remember_tensors(self) -> None:
        """Remembers the tensors that are plain attributes of modules when training begins, to warn of lost ones."""
        self._at_start = _plain_tensors(self._model)

    def warn_of_lost_tensors(self) -> None:
        """Logs a warning, once in a run, if tensors that no checkpoint contains have changed.

        Tensors that did not exist when training began may be caches, so they are compared with their first value.
        """
        before = self._at_start
        if before is None:
            return
        contained = {f"{path}.{name}".lstrip(".") for path, values in self.state_dict().items() for name in values}
        found = {name: tensor for name, tensor in _plain_tensors(self._model).items() if name not in contained}
        if lost := [name for name, tensor in found.items() if before.setdefault(name, tensor) != tensor]:
            self._at_start = None
            _logger.warning(
                "Training changes tensors that checkpoints do not contain, so a resumed run loses them: %s. If the "
                "model reads a tensor before it sets it, register it with self.register_buffer(name, tensor) in the "
                "module.",
                ", ".join(lost),
            )


def _attributes_of(module: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}


def _numbers_of(module: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in _attributes_of(module).items() if _is_number(value)}


def _others_of(module: nn.Module) -> dict[str, tuple[int, int | None]]:
    """Returns the identities and lengths of the attributes that are not numbers."""
    others = {key: value for key, value in _attributes_of(module).items() if not _is_number(value)}
    return {key: (id(value), len(value) if isinstance(value, _CONTAINERS) else None) for key, value in others.items()}


def _is_number(value: Any) -> bool:
    return all(map(_is_number, value)) if type(value) is tuple else type(value) in (int, float, NoneType)


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Returns the plain tensors among the attributes."""
    return {key: value for key, value in vars(module).items() if _is_plain_tensor(value)}


def _is_plain_tensor(value: Any) -> bool:
    """Checks for a dense tensor of torch's own class with data and without gradients."""
    return (
        type(value) is Tensor
        and value.layout is torch.strided
        and not (value.requires_grad or value.is_inference() or value.is_quantized or value.is_meta)
    )


def _saves_more(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state


def _plain_tensors(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Returns the identity and version of each tensor that is a plain attribute of a module.

    Leaves out modules that compute their tensors before each forward pass (such as those with weight normalization,
    which is a forward pre-hook), or that save them with `get_extra_state`.
    """
    return {
        f"{path}.{name}".lstrip("."): (id(value), value._version)
        for path, module in unwrap_model(model).named_modules()
        if not (module._forward_pre_hooks or _saves_more(module))
        for name, value in _tensors_of(module).items()
    }
