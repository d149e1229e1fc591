"""Records the norms of a model's gradients, by groups of modules."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from footplate.checks import check_count
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import is_dtensor, tensor_norms
from footplate.engine import Hook
from footplate.engine.reach import Reach
from footplate.errors import ArgumentError
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class GradientNormHook(Hook):
    """Records the L2 norm of the gradients of each group of modules, as `train/grad_norm/<group>`.

    It measures the gradients of an optimizer step: of the whole accumulation round, unscaled, and clipped if clipping
    is enabled. Norms stay on the device until the log reads them. Iterations between two intervals have no extra cost.

    Args:
        interval: The number of iterations between two measured steps.
        groups: The groups by name, each a regular expression for the start of its parameters' names. By default, each
            child of the model is a group.

    Raises:
        ArgumentError: `interval` is no positive whole number, or a group has no regular expression. When training
            begins: a group has no parameter.
    """

    priority = "VERY_HIGH"

    def __init__(self, interval: int = 50, groups: Mapping[str, str] | None = None) -> None:
        self.interval = check_count("interval", interval)
        self.groups = dict(groups or {})
        for group, pattern in self.groups.items():
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                key = f"groups.{group}"
                raise ArgumentError(f"no regular expression: {error}", key=key, found=pattern) from error
        self._members: dict[str, list[Tensor]] = {}
        self._handles: list[Any] = []
        self._squares: dict[str, Tensor] = {}

    def idle_settings(self, reach: Reach) -> Iterator[tuple[str, str]]:
        """Yields `interval` if the run ends before it."""
        if reach.iters is not None and self.interval > reach.iters:
            yield "interval", f"the run ends after {reach.iters} iterations, so no norm is measured"

    def before_train(self, runner: "Runner") -> None:
        """Assigns the parameters to groups."""
        named = list(unwrap_model(runner.model).named_parameters())  # includes frozen ones, which may be unfrozen
        found: dict[str, list[Tensor]] = {}
        if self.groups:
            found = {
                group: [each for name, each in named if re.match(pattern, name)]
                for group, pattern in self.groups.items()
            }
        else:
            for name, each in named:
                found.setdefault(name.partition(".")[0], []).append(each)
        for group, members in found.items():
            if not members:
                raise ArgumentError(
                    "no parameter belongs to the group", key=f"groups.{group}", found=self.groups[group]
                )
        self._members = found
        self._histories = {group: runner.message_hub.history(f"train/grad_norm/{group}") for group in found}

    def before_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None) -> None:
        """Starts measuring if the interval is complete."""
        if (runner.iter + 1) % self.interval == 0 and not self._handles:
            self._handles = [each.register_step_pre_hook(self._look) for each in _optimizers(runner.optim_wrapper)]

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Records the norms once a step was taken, and stops measuring."""
        if not self._squares:
            return
        for group, square in self._squares.items():
            self._histories[group].append(square.sqrt())
        self._squares = {}
        self._stop_looking()

    def after_train(self, runner: "Runner") -> None:
        """Stops measuring."""
        self._stop_looking()

    def _stop_looking(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.no_grad()
    def _look(self, optimizer: Optimizer, *_: Any) -> None:
        own = {id(each) for group in optimizer.param_groups for each in group["params"]}
        scale = getattr(optimizer, "grad_scale", None)  # set if the optimizer's kernel unscales by itself
        for group, members in self._members.items():
            found = [each.grad for each in members if each.grad is not None and id(each) in own]
            gradients = [each.coalesce().values() if each.is_sparse else each for each in found]
            if not gradients:
                continue
            parts = any(map(is_dtensor, gradients))
            norms = tensor_norms(gradients) if parts else torch.stack(torch._foreach_norm(gradients))
            norm = torch.linalg.vector_norm(norms.float())
            square = (norm if scale is None else norm / scale) ** 2
            self._squares[group] = self._squares[group] + square if group in self._squares else square


def _optimizers(wrapper: Any) -> list[Optimizer]:
    return [each.optimizer for each in wrapper.parts.values()]
