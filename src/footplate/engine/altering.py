"""Detects hooks that change the model's weights for a validation. The run is not saved until they restore them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from footplate.distributed import unwrap_model
from footplate.distributed.sharding import local_tensor

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_OURS, _NOT_OURS = "footplate.", "footplate.first_generation.adapters."


def altered_by(runner: "Runner", *events: str) -> bool:
    """Calls the hooks that act at `events` and checks whether a user's hook changed the weights.

    Hooks of footplate are not checked: they put the right weights into a checkpoint that is saved in the meantime.
    Weights are compared by their norms, only before and after a user's hook.
    """
    altered = False
    for event in events:
        methods = runner.hooks.at(event)
        if not any(map(_is_users, methods)):
            runner.call_hook(event)
            continue
        for method in methods:
            before = _norms(runner) if _is_users(method) else None
            method(runner)
            altered = altered or (before is not None and before != _norms(runner))
    return altered


def _is_users(method: Callable[..., Any]) -> bool:
    module = f"{type(getattr(method, '__self__', None)).__module__}."
    return not module.startswith(_OURS) or module.startswith(_NOT_OURS)


def _norms(runner: "Runner") -> bytes:
    model = unwrap_model(runner.model)
    held = [local_tensor(each).detach() for each in (*model.parameters(), *model.buffers())]
    measured = [_with_norm(each) for each in held if each.numel()]
    if not measured:
        return b""
    norms = torch._foreach_norm(measured, dtype=torch.float64)  # one call; in float64, so that no norm overflows
    return torch.stack([each.cpu() for each in norms]).numpy().tobytes()


def _with_norm(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a form of the tensor that has a norm: integers and 8-bit floats have none, so they become floats."""
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    return tensor if tensor.is_floating_point() and tensor.element_size() > 1 else tensor.float()
