"""Hooks that put other weights into the model for a validation: nothing is saved until they have put them back."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from footplate.distributed import unwrap_model
from footplate.distributed.sharding import local_part

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_OURS, _NOT_OURS = "footplate.", "footplate.legacy."


def altered_by(runner: "Runner", *events: str) -> bool:
    """Calls the hooks that act at `events`, and tells whether one of a user's own has changed the weights.

    Ours put the right weights into a checkpoint that is saved meanwhile. Weights are compared by their sums, and only
    around hooks of a user's own.
    """
    altered = False
    for event in events:
        methods = runner.hooks.at(event)
        if not any(map(_is_users, methods)):
            runner.call_hook(event)
            continue
        with runner.during(event):
            for method in methods:
                before = _sums(runner) if _is_users(method) else None
                method(runner)
                altered = altered or (before is not None and before != _sums(runner))
    return altered


def _is_users(method: Callable[..., Any]) -> bool:
    module = f"{type(getattr(method, '__self__', None)).__module__}."
    return not module.startswith(_OURS) or module.startswith(_NOT_OURS)


def _sums(runner: "Runner") -> bytes:
    model = unwrap_model(runner.model)
    held = [local_part(each).detach() for each in (*model.parameters(), *model.buffers())]
    held = [torch.view_as_real(each) if each.is_complex() else each for each in held]
    sums = [
        each.sum(dtype=torch.float32 if each.element_size() < 4 else None).double() for each in held if each.numel()
    ]
    return torch.stack([each.cpu() for each in sums]).numpy().tobytes() if sums else b""
