"""Measures the waits for data, and lets signal handlers end work that a run can repeat."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any, Literal


class InterruptedWaitError(BaseException):
    """Raised to leave work that the run repeats when it resumes; see `DataWait`."""


class DataWait:
    """Records what this process is doing, so that a signal handler can end it with an error.

    A handler can end only work that changes nothing that is saved, or whose changes the training loop undoes:

    | `work` | a stop is requested (in a single process) | a worker dies |
    |---|---|---|
    | "batch": the training loop waits for a batch | raised in `call` | raised in `call`, unless a stop is pending |
    | "validation" of the training loop | raised in `call` | raised in `call` |
    | "first step" of this process, until an optimizer steps | raised in `call` | handled afterwards |
    | "": any other work, such as steps and hooks | handled afterwards | handled afterwards |

    Code of users that reads a sample, waits for a worker, predicts or computes a metric runs through `call` or `over`.
    Only this code is interrupted: code that swaps the run's random generators or weights runs outside of it. If the
    signal arrives outside of it, the next `call` raises the error. If no `call` follows, the request is handled after
    the iteration or validation.

    Users' code may swallow the error that a handler raises in it. `call` therefore raises it again at its end, and
    `keep` before an optimizer steps.

    Attributes:
        work: What this process is doing; see above.
        raised: The error that a handler has raised in the current work, or None.
        pending: An InterruptedWaitError if a stop has been requested in a single process, or else the error about a
            worker that has died. None if there is neither. It is kept until training ends, even after it has been
            raised.
    """

    work: Literal["batch", "validation", "first step", ""] = ""
    pending: BaseException | None = None
    raised: BaseException | None = None
    _is_interruptible = False
    _since = 0.0
    _seconds = 0.0  # of waiting for batches

    def begin(self) -> None:
        """Called by the training loop before it waits for a batch."""
        self._since = time.perf_counter()
        self.work = "batch"

    def end(self) -> None:
        """Called by the training loop when it has received a batch."""
        self.work = ""
        self._seconds += time.perf_counter() - self._since

    def cancel(self) -> None:
        """Called at the end of work, and by the training loop when it stops reading. Does not count the wait."""
        self.work = ""
        self.raised = None

    @contextmanager
    def during(self, work: Literal["validation", "first step", ""]) -> Iterator[None]:
        """Sets `work` for the duration of the block."""
        self.work = work
        try:
            yield
        finally:
            self.cancel()

    def keep(self, *_: Any) -> None:
        """Stops handlers from ending the first step. Called just before an optimizer steps.

        Raises:
            InterruptedWaitError: A handler has raised it in this step, and users' code has swallowed it.
        """
        if self.raised is not None:
            raise self.raised
        self.work = ""

    def take_seconds(self) -> float:
        """Returns how long the training loop has waited for batches since the last call, in seconds."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def reset(self) -> None:
        """Clears the pending error and the measured time when a run ends."""
        self._seconds = 0.0
        self.pending = self.raised = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function that a handler may interrupt. If an error is pending and ends `work`, raises it instead.

        Also raises the error that a handler has raised in the function if the function swallows it.
        """
        outer = self._is_interruptible
        try:
            self._is_interruptible = True
            if self.pending and self._ends_work(self.pending):
                self.leave(self.pending)
            return function(*arguments)
        finally:
            self._is_interruptible = outer
            if self.raised is not None:
                raise self.raised

    def over(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Wraps an iterator over a loader, so that each wait for the loader's workers can be interrupted."""
        return map(self.call, repeat(next), repeat(iterator))

    def interrupt(self, error: BaseException) -> None:
        """Makes `error` pending, and raises it if it ends the current work. Called by signal handlers.

        If a stop has been requested, the loop needs no more data, so the death of a worker does not replace its error.

        Raises:
            InterruptedWaitError: A stop has been requested.
            RuntimeError: A worker has died.
        """
        if not isinstance(self.pending, InterruptedWaitError):
            self.pending = error
        if self._ends_work(self.pending):
            self.leave(self.pending)

    def leave(self, error: BaseException) -> None:
        """Raises an error if a `call` is in progress."""
        if self._is_interruptible:
            self._is_interruptible = False  # raise at most once per call
            self.raised = error
            raise error

    def _ends_work(self, error: BaseException) -> bool:
        return self.work in ("batch", "validation") or (
            self.work == "first step" and isinstance(error, InterruptedWaitError)
        )


data_wait = DataWait()
