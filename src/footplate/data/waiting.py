"""Measures the waits for data, and interrupts them when a signal handler needs to raise an error."""

import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any


class InterruptedWaitError(BaseException):
    """Raised if a stop is requested while the run is waiting for a batch between two iterations."""


class DataWait:
    """Records whether this process is waiting for data, so that a signal handler can end the wait with an error.

    - Code that reads a sample or waits for a worker runs through `call` or `over`. Only this code can be interrupted.
      Code that swaps the run's random generators must run outside these methods.
    - The training loop calls `begin` and `end`, and handles the error.
    - Signal handlers set `stop_requested` or `death`, and call `interrupt`. For a run, see `footplate.engine.requests`.

    Attributes:
        for_batch: Whether the training loop is waiting for a batch, with no iteration in progress.
        stop_requested: Whether a stop has been requested in a single process.
        death: The error about a worker that has died, or None.
    """

    for_batch = False
    stop_requested = False
    death: RuntimeError | None = None
    _is_interruptible = False
    _since = 0.0
    _seconds = 0.0  # of waiting for batches

    def begin(self) -> None:
        """Called by the training loop before it waits for a batch."""
        self._since = time.perf_counter()
        self.for_batch = True

    def end(self) -> None:
        """Called by the training loop when it has received a batch."""
        self.for_batch = False
        self._seconds += time.perf_counter() - self._since

    def take_seconds(self) -> float:
        """Returns how long the training loop has waited for batches since the last call, in seconds."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def reset(self) -> None:
        """Clears a stop request and the death of a worker when a run ends."""
        self._seconds = 0.0
        self.stop_requested = False
        self.death = None

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Calls a function that waits for data.

        If a stop or the death of a worker is already pending, calls `interrupt` first.
        """
        try:
            self._is_interruptible = True
            if self.stop_requested or self.death:
                self.interrupt()
            return function(argument)
        finally:
            self._is_interruptible = False

    def over(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Wraps an iterator over a loader, so that each wait for the loader's workers can be interrupted."""
        return map(self.call, repeat(next), repeat(iterator))

    def interrupt(self, *, in_any_wait: bool = False) -> None:
        """Raises the pending error if the training loop is waiting for a batch. Otherwise, its next wait raises it.

        Args:
            in_any_wait: Whether the death of a worker also ends the waits of other code, such as validation.

        Raises:
            InterruptedWaitError: A stop has been requested.
            RuntimeError: A worker has died.
        """
        error: BaseException | None = self.death if self.for_batch or in_any_wait else None
        if self.for_batch and self.stop_requested:
            error = InterruptedWaitError()
        if self._is_interruptible and error:
            self._is_interruptible = False  # raise at most once per wait
            raise error


data_wait = DataWait()
