"""Adapts loops that override methods, as is common in existing code."""

import logging
from typing import Any

from footplate.engine.control.hook_list import CountingHook, HookList
from footplate.engine.loops.base_loops import BaseLoop, BaseTrainLoop, Session
from footplate.errors import ArgumentError

_logger = logging.getLogger("footplate.engine")


def adapt_loops(loop: BaseTrainLoop, val_loop: BaseLoop | None, hooks: HookList) -> None:
    """Adapts the loops of a run, once: those that call hooks, and those that run iterations themselves."""
    if loop.is_adapted:
        return
    loop.is_adapted = True
    if any(map(loop.overrides, ("run", "run_epoch", "run_iter"))) or (val_loop and val_loop.overrides("run")):
        hooks.register(CountingHook())
    if loop.is_overridden:
        _handle_requests(loop)


def _handle_requests(loop: BaseTrainLoop) -> None:
    """Adds resume checks and support for stop and save requests to a loop that overrides `run` or `run_epoch`.

    Wraps the loop's `run_iter` and, if it is overridden, `run`. The loop must call `run_iter` for each iteration.
    """
    original_run = loop.run
    original_run_iter = loop.run_iter
    begins = False  # whether `run_iter` is about to be called for the first time

    def run() -> Any:
        """Runs the loop in the phase "train", which here includes the `before_train` and `after_train` hooks.

        Only the loop knows when it calls these hooks. The setup must follow them, so the first `run_iter` does it.
        """
        nonlocal begins
        begins = True
        loop.session = Session(loop.iter)
        with loop.training():
            return original_run()

    def run_iter(*args: Any, **kwargs: Any) -> None:
        """Trains on one batch. Handles stop and save requests before and after it.

        Before it, because the loop may have validated or ended an epoch since the previous iteration.
        """
        nonlocal begins
        if begins:
            begins = False
            loop.begin()
        if loop.iter == loop.session.began_at:
            _check_resumed_data(loop)
        loop.runner.boundary.handle()
        original_run_iter(*args, **kwargs)
        loop.batches_read = 0
        loop.runner.boundary.handle()

    loop.run_iter = run_iter  # type: ignore[method-assign]
    if loop.overrides("run"):
        loop.run = run  # type: ignore[method-assign]


def _check_resumed_data(loop: BaseTrainLoop) -> None:
    """Checks that a loop that reads batches itself resumes at the right batch.

    Warns if the loop starts reading from the first batch again.

    Raises:
        ArgumentError: The loop skips the batches of completed iterations, but `dataloader_iterator` has already skipped
            them.
    """
    if loop.at_start:
        return
    name = type(loop).__name__
    if loop.batches_read > loop.iter:
        raise ArgumentError(
            f"{name} skips the batches of the {loop.iter} completed iterations a second time",
            key="train_cfg.type",
            notes=["dataloader_iterator has already skipped them. Remove the code that skips batches."],
        )
    if loop.batches_read:
        return
    _logger.warning(
        "The run was saved after iteration %d, but %s reads batches itself, so %s restarts from the beginning. To "
        "avoid this, call the inherited run_epoch() or, in iteration-based training, read the batches from "
        "self.dataloader_iterator.",
        loop.iter,
        name,
        f"epoch {loop.epoch + 1}" if loop.by_epoch else "the data",
    )
    if loop.by_epoch:
        loop.restart_epoch()
