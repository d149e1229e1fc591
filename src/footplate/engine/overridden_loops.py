"""Adapts training loops that override `run` or `run_epoch`, as many code bases do."""

import logging
from typing import TYPE_CHECKING, Any

from footplate.engine.signals import answer_requests
from footplate.errors import ArgumentError

if TYPE_CHECKING:
    from footplate.engine.base_loops import BaseTrainLoop

_logger = logging.getLogger("footplate.engine")


class OverriddenLoop:
    """Does what the engine does around training and around an iteration, for a loop that overrides the callers of both.

    The loop calls `run_iter` for a complete iteration. Its `run` and `run_iter` become the methods of this class, which
    call those of the loop's class.

    Args:
        loop: The loop.
    """

    def __init__(self, loop: "BaseTrainLoop") -> None:
        self._loop = loop
        loop.run_iter = self.run_iter  # type: ignore[method-assign]
        if loop.overrides("run"):
            loop.run = self.run  # type: ignore[method-assign]

    def run(self) -> Any:
        """Runs the loop. It begins with its first iteration, because its class calls the `before_train` hooks."""
        self._loop._has_begun = False
        with self._loop.runner.phase("train"), self._loop.runner.phase("run"):
            return type(self._loop).run(self._loop)

    def run_iter(self, *args: Any, **kwargs: Any) -> None:
        """Trains on one batch, and then answers stop and save requests."""
        loop = self._loop
        if not loop._has_begun:
            loop._begin()
        if loop.iter == loop._began_at:
            self._check_resumed_data()
        type(loop).run_iter(loop, *args, **kwargs)
        loop._batches_read = 0
        if loop.runner.requests.pending:
            answer_requests(loop.runner)

    def _check_resumed_data(self) -> None:
        """Checks whether a resumed run that reads its own batches reads the next one.

        Raises:
            ArgumentError: It skips the batches of completed iterations, although `dataloader_iterator` does so too.
        """
        loop, name = self._loop, type(self._loop).__name__
        if loop.at_epoch_start:
            return
        if loop._batches_read > loop.iter:
            raise ArgumentError(
                f"{name} skips the batches of the {loop.iter} completed iterations",
                key="train_cfg.type",
                notes=["dataloader_iterator already starts after them. Remove the lines that skip batches."],
            )
        if loop._batches_read:
            return
        _logger.warning(
            "The run was saved after iteration %d, but %s reads its own data, so its %s starts over. To resume within "
            "it, call super().run_epoch(), or read the batches from self.dataloader_iterator.",
            loop.iter,
            name,
            f"epoch {loop.epoch + 1}" if loop.by_epoch else "data",
        )
        if loop.by_epoch:
            loop._iter = loop._began_at = loop.epoch * len(loop.dataloader)
