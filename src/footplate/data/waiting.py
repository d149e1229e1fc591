"""Interrupts the wait for data when a signal handler needs to raise an error."""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any


class InterruptedWaitError(BaseException):
    """Raised if a stop is requested while the run is waiting for a batch between two iterations."""


class DataWait:
    """Records whether this process is waiting for data, so that a signal handler can end the wait with an error.

    - Code that reads a sample or waits for a worker runs through `call` or `over`. Only this code can be interrupted.
      Code that swaps the run's random generators must run outside these methods.
    - The training loop sets `for_batch` and handles the error.
    - Signal handlers call `interrupt`.

    Attributes:
        for_batch: Whether the training loop is waiting for a batch, with no iteration in progress.
        error: The error to raise when the training loop waits for a batch: InterruptedWaitError after a stop request in
            a single process, otherwise the death of a worker. None if neither has happened.
    """

    for_batch = False
    error: BaseException | None = None
    _is_interruptible = False

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Calls a function that waits for data. First raises `error` if it is set and the training loop is waiting."""
        try:
            self._is_interruptible = True
            if self.error is not None:
                self.interrupt(self.error)
            return function(argument)
        finally:
            self._is_interruptible = False

    def over(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Wraps an iterator over a loader, so that each wait for the loader's workers can be interrupted."""
        return map(self.call, repeat(next), repeat(iterator))

    def interrupt(self, error: BaseException, *, in_any_wait: bool = False) -> None:
        """Raises `error` if the training loop is waiting for a batch. If not, the next wait for a batch raises `error`.

        Args:
            error: The error.
            in_any_wait: Whether to also raise the error now if this process is waiting for data for any other reason.
        """
        self.error = error
        if self._is_interruptible and (self.for_batch or in_any_wait):
            self._is_interruptible = False  # raise at most once per wait
            raise error


data_wait = DataWait()
