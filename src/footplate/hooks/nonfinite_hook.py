"""Checks at intervals that losses are finite."""

from typing import Any

from footplate.distributed import compute_on_ranks
from footplate.engine import Hook, Run
from footplate.engine.saving.nonfinite import NonFiniteGuard
from footplate.registry import HOOKS


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Checks at intervals that the loss has been finite since the previous check. Every run has this hook.

    `on_nonfinite` of the runner sets the interval and what happens otherwise.

    Args:
        guard: The checks, such as the one that the runner makes of `on_nonfinite`.
    """

    priority = "LOW"  # before checkpoints

    def __init__(self, guard: NonFiniteGuard) -> None:
        self._guard = guard

    def before_train(self, runner: Run) -> None:
        """Starts the checks."""
        self._guard.begin(runner)

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Checks the losses at the end of each interval."""
        if (runner.iter + 1) % self._guard.interval == 0:
            compute_on_ranks(lambda: self._guard.check(runner))

    def after_train(self, runner: Run) -> None:
        """Checks the losses of the last, possibly incomplete interval."""
        compute_on_ranks(lambda: self._guard.check(runner))
