"""Optimizer wrappers for hooks and models that step the optimizer themselves."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from footplate.optim import OptimWrapper
from footplate.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class SteppedByHook(OptimWrapper):
    """An optimizer wrapper for runs in which a user-defined hook steps the optimizer.

    Attributes:
        pending_loss: The loss of this iteration, with its graph; hooks read it as `runner.outputs["loss"]`.
        precision: The autocast dtype of the forward pass, or None to leave the precision to the model.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pending_loss: Tensor | None = None
        self.precision: torch.dtype | None = None
        self._iteration_groups: list[dict[str, Any]] = []

    def update_params(self, loss: Tensor, step_kwargs: Any = None, zero_kwargs: Any = None) -> None:
        """Stores the loss and the parameter group settings of this iteration for the hook."""
        self.pending_loss = loss
        self._iteration_groups = [dict(group) for group in self.param_groups]

    @contextmanager
    def iteration_settings(self) -> Iterator[None]:
        """Restores the parameter group settings of this iteration for the duration of the block.

        Schedules change the settings right after the loss is computed, but the hook steps later.
        """
        changed = [
            {name: value for name, value in group.items() if name in before and value is not before[name]}
            for group, before in zip(self.param_groups, self._iteration_groups, strict=True)
        ]
        for group, before, changes in zip(self.param_groups, self._iteration_groups, changed, strict=True):
            group.update({name: before[name] for name in changes})
        try:
            yield
        finally:
            for group, changes in zip(self.param_groups, changed, strict=True):
                group.update(changes)

    def optim_context(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Returns the context manager for the forward pass."""
        if self.precision is None:
            return super().optim_context(model)
        return torch.autocast(next(model.parameters()).device.type, self.precision)


@OPTIM_WRAPPERS.register_module()
class SteppedByModel(OptimWrapper):
    """An optimizer wrapper for a model whose `train_step` steps the optimizer."""

    def update_params(self, loss: Tensor | None, step_kwargs: Any = None, zero_kwargs: Any = None) -> None:
        """Does nothing, because the model has already stepped the optimizer."""
