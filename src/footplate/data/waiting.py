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
    - The training loop calls `begin`, `end` and `cancel`, and handles the error.
    - Signal handlers call `interrupt`. For a run, see `footplate.engine.stopping.requests`.

    What happens on a request depends on what the process is doing:

    | the process | a stop is requested (in a single process) | a worker dies |
    |---|---|---|
    | waits for a training batch, in `call` | raised at once | raised at once; if a stop is pending, that is raised |
    | waits for a training batch, outside `call` | raised by the next `call` | raised by the next `call` |
    | waits for validation data, in `call` | handled after the validation | raised at once |
    | computes, or runs hooks | handled after the iteration or validation | the same |

    If no `call` follows before the batch is complete, the request is handled after the next iteration.

    Attributes:
        for_training_batch: Whether the training loop is waiting for a batch, with no iteration in progress.
        pending: The error that the loop's next wait for a batch raises: an InterruptedWaitError if a stop has been
            requested in a single process, or else the error about a worker that has died. None if there is neither.
            It is kept until training ends, even after it has been raised.
    """

    for_training_batch = False
    pending: BaseException | None = None
    _is_interruptible = False
    _since = 0.0
    _seconds = 0.0  # of waiting for batches

    def begin(self) -> None:
        """Called by the training loop before it waits for a batch."""
        self._since = time.perf_counter()
        self.for_training_batch = True

    def end(self) -> None:
        """Called by the training loop when it has received a batch."""
        self.for_training_batch = False
        self._seconds += time.perf_counter() - self._since

    def cancel(self) -> None:
        """Called by the training loop when it stops reading. The time of an unfinished wait is not counted."""
        self.for_training_batch = False

    def take_seconds(self) -> float:
        """Returns how long the training loop has waited for batches since the last call, in seconds."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def reset(self) -> None:
        """Clears the pending error and the measured time when a run ends."""
        self._seconds = 0.0
        self.pending = None

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """Calls a function that waits for data. For a batch of the training loop, raises a pending error instead."""
        try:
            self._is_interruptible = True
            if self.pending:
                self.interrupt(self.pending)
            return function(argument)
        finally:
            self._is_interruptible = False

    def over(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Wraps an iterator over a loader, so that each wait for the loader's workers can be interrupted."""
        return map(self.call, repeat(next), repeat(iterator))

    def interrupt(self, error: BaseException, *, in_any_wait: bool = False) -> None:
        """Raises an error if the training loop is waiting for a batch. Otherwise, its next wait for a batch raises it.

        If a stop has been requested, the loop needs no more data, so the death of a worker does not replace its error.

        Args:
            error: The error.
            in_any_wait: Whether to raise the error also if other code is waiting, such as validation.

        Raises:
            InterruptedWaitError: A stop has been requested.
            RuntimeError: A worker has died.
        """
        if not isinstance(self.pending, InterruptedWaitError):
            self.pending = error
        if self._is_interruptible and (self.for_training_batch or in_any_wait):
            self._is_interruptible = False  # raise at most once per wait
            raise self.pending if self.for_training_batch else error


data_wait = DataWait()
