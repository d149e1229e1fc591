"""Decides when a signal handler may end the wait for data with an error."""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any


class InterruptedWaitError(BaseException):
    """Raised if a stop is requested while the run waits for a batch, with no iteration in progress."""


class DataWait:
    """Records whether this process is waiting for data, so that a signal handler can end the wait with an error.

    - Code that reads a sample or waits for a worker uses `call` or `over`. It can be interrupted; swapping the run's
      random generators cannot.
    - The training loop sets `for_batch`, and catches `InterruptedWaitError`.
    - Signal handlers call `stop`, or `may_raise` before they raise another error.

    Attributes:
        for_batch: Whether the training loop is waiting for a batch, with no iteration in progress.
        is_stopping: Whether a stop has been requested, which ends this or the next wait of the training loop.
    """

    for_batch = is_stopping = False
    _is_interruptible = False

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Calls a function that waits for data, unless a stop has already been requested."""
        try:
            self._is_interruptible = True
            if self.is_stopping:
                self.stop()
            return function(argument)
        finally:
            self._is_interruptible = False

    def over(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Wraps an iterator that waits for the workers of a loader."""
        return map(self.call, repeat(next), repeat(iterator))

    def stop(self) -> None:
        """Ends the training loop's wait for a batch: the current one, or else the next one.

        Raises:
            InterruptedWaitError: The training loop is waiting for a batch.
        """
        self.is_stopping = True
        if self.may_raise(self.for_batch):
            raise InterruptedWaitError

    def may_raise(self, is_expected: bool) -> bool:
        """Checks whether a signal handler may raise now: only while the run expects an error and waits for data.

        After returning True, returns False until the process waits for data again.
        """
        may_raise = is_expected and self._is_interruptible
        self._is_interruptible = self._is_interruptible and not may_raise
        return may_raise


data_wait = DataWait()
