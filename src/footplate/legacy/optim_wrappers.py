"""Optimizer wrappers for code that steps by itself."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from footplate.optim import OptimWrapper
from footplate.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class SteppedByHook(OptimWrapper):
    """Leaves the step to a hook: keeps the loss, for an optimizer hook of the user's own to go on with.

    Attributes:
        pending_loss: The loss of this iteration, with its graph; hooks see it as `runner.outputs["loss"]`.
        precision: What the forward pass computes in, None for the model's own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pending_loss: Tensor | None = None
        self.precision: torch.dtype | None = None
        self._in_force: list[dict[str, Any]] = []

    def update_params(self, loss: Tensor, step_kwargs: Any = None, zero_kwargs: Any = None) -> None:
        """Keeps the loss, and the settings of this iteration."""
        self.pending_loss = loss
        self._in_force = [dict(group) for group in self.param_groups]

    @contextmanager
    def settings_in_force(self) -> Iterator[None]:
        """Gives the optimizer back what schedules have moved on from since the loss was computed, meanwhile."""
        moved = [
            {name: value for name, value in group.items() if name in before and value is not before[name]}
            for group, before in zip(self.param_groups, self._in_force, strict=True)
        ]
        for group, before, changes in zip(self.param_groups, self._in_force, moved, strict=True):
            group.update({name: before[name] for name in changes})
        try:
            yield
        finally:
            for group, changes in zip(self.param_groups, moved, strict=True):
                group.update(changes)

    def optim_context(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Returns what the forward pass runs in."""
        if self.precision is None:
            return super().optim_context(model)
        return torch.autocast(next(model.parameters()).device.type, self.precision)


@OPTIM_WRAPPERS.register_module()
class SteppedByModel(OptimWrapper):
    """Leaves the step to the model, whose train step makes it."""

    def update_params(self, loss: Tensor | None, step_kwargs: Any = None, zero_kwargs: Any = None) -> None:
        """Does nothing."""
