"""Checks that a resumed run whose loop overrides `run` or `run_epoch` reads the right next batch."""

import logging
from collections.abc import Iterator
from typing import Any

from footplate.errors import ArgumentError

_logger = logging.getLogger("footplate.engine")


class CountedBatches:
    """An iterator over batches that counts how many were drawn.

    Args:
        batches: The batches.
    """

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self.drawn = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.drawn += 1
        return next(self._batches)


def check_not_skipped(loop: Any, drawn: int) -> None:
    """Refuses a resumed loop that skips batches by itself, since its iterator starts at the right one already.

    Args:
        loop: The loop, before its first iteration.
        drawn: The number of batches that the loop has drawn so far.

    Raises:
        ArgumentError: It has drawn one for each iteration that is done, and one more.
    """
    if drawn == loop.iter + 1:
        raise ArgumentError(
            f"{type(loop).__name__}.run skips the {loop.iter} batches of the iterations that are done",
            key="train_cfg.type",
            notes=["dataloader_iterator starts after them already. Remove the lines that skip batches from run."],
        )


def warn_of_new_epoch(loop: Any, done: int) -> None:
    """Warns that a run that was saved within an epoch starts that epoch over."""
    _logger.warning(
        "the run was saved after %d batches of epoch %d, and %s reads its data by itself: this epoch starts over. "
        "Call super().run_epoch() to resume within an epoch",
        done,
        loop.epoch + 1,
        type(loop).__name__,
    )


def warn_of_new_pass(loop: Any) -> None:
    """Warns that a resumed run reads its data from the start."""
    _logger.warning(
        "%s.run reads its data by itself: after a resume at iteration %d they may start over. "
        "Draw batches from self.dataloader_iterator to continue at the right one",
        type(loop).__name__,
        loop.iter,
    )
