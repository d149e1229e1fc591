"""Adapts training loops that override `run` or `run_epoch`, as many code bases do."""

import logging
from typing import TYPE_CHECKING, Any

from footplate.errors import ArgumentError

if TYPE_CHECKING:
    from footplate.engine.base_loops import BaseTrainLoop

_logger = logging.getLogger("footplate.engine")


def adapt_overridden(loop: "BaseTrainLoop") -> None:
    """Adds the engine's work around training and each iteration to a loop that overrides `run` or `run_epoch`.

    The loop calls `run_iter` for a complete iteration. Its `run` and `run_iter` are replaced with functions that call
    them.
    """
    run, run_iter = loop.run, loop.run_iter

    def train() -> Any:
        """Runs the loop. It begins with its first iteration, because its class calls the `before_train` hooks."""
        loop._began_at = None
        with loop.runner.phase("train"):
            return run()

    def step(*args: Any, **kwargs: Any) -> None:
        """Trains on one batch, and then answers stop and save requests."""
        if loop._began_at is None:
            loop._begin()
        if loop.iter == loop._began_at:
            _check_resumed_data(loop)
        run_iter(*args, **kwargs)
        loop._batches_read = 0
        loop._answer_requests()

    loop.run_iter = step  # type: ignore[method-assign]
    if loop.overrides("run"):
        loop.run = train  # type: ignore[method-assign]


def _check_resumed_data(loop: "BaseTrainLoop") -> None:
    """Checks whether a resumed run that reads its own batches reads the next one.

    Raises:
        ArgumentError: It skips the batches of completed iterations, although `dataloader_iterator` does so too.
    """
    if loop.at_epoch_start:
        return
    name = type(loop).__name__
    if loop._batches_read > loop.iter:
        raise ArgumentError(
            f"{name} skips the batches of the {loop.iter} completed iterations",
            key="train_cfg.type",
            notes=["dataloader_iterator already starts after them. Remove the lines that skip batches."],
        )
    if loop._batches_read:
        return
    _logger.warning(
        "The run was saved after iteration %d, but %s reads its own data, so its %s restarts from the beginning. To "
        "resume within it, call super().run_epoch(), or read the batches from self.dataloader_iterator.",
        loop.iter,
        name,
        f"epoch {loop.epoch + 1}" if loop.by_epoch else "data",
    )
    if loop.by_epoch:
        loop._iter = loop._began_at = loop.epoch * len(loop.dataloader)
