"""Checks at intervals that losses are finite."""

from typing import Any

from footplate.distributed import compute_on_ranks
from footplate.engine import Hook, Runner
from footplate.registry import HOOKS


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Checks at intervals that the loss has been finite since the previous check. Every run has this hook.

    `on_nonfinite` of the runner sets the interval and what happens otherwise.
    """

    priority = "LOW"  # before checkpoints

    def before_train(self, runner: Runner) -> None:
        """Starts the checks."""
        runner.nonfinite.begin(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Checks the losses at the end of each interval."""
        if (runner.iter + 1) % runner.nonfinite.interval == 0:
            compute_on_ranks(lambda: runner.nonfinite.check(runner))

    def after_train(self, runner: Runner) -> None:
        """Checks the losses of the last, possibly incomplete interval."""
        compute_on_ranks(lambda: runner.nonfinite.check(runner))
