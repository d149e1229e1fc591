"""Converts signals and worker deaths into requests for the training loop."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from footplate.data import data_wait, is_worker_death
from footplate.engine.requests import END_SIGNALS
from footplate.records.logger import print_urgent

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_SAME_REQUEST = 0.5  # seconds; a signal repeated within this time is ignored, because `timeout` sends signals twice


class InterruptedWaitError(BaseException):
    """Raised if a stop is requested while the run is waiting for a batch between two iterations."""


@contextmanager
def handling_signals(runner: "Runner") -> Iterator[None]:
    """Handles signals inside the block: SIGINT, SIGTERM and SIGHUP request a stop, SIGUSR1 requests a save.

    A second SIGINT or SIGTERM exits immediately. A second SIGHUP does not, because a closing terminal may send several.
    Under `nohup`, SIGHUP is ignored.

    If a loader worker dies, torch raises an error at an arbitrary point in this process. This context manager defers
    the error to the end of the iteration.

    Has no effect outside the main thread, because Python delivers signals only there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = _Handlers(runner)
    handled: dict[int, Any] = dict.fromkeys(END_SIGNALS, handlers.on_stop)
    if hasattr(signal, "SIGUSR1"):  # Windows lacks this signal and the next two
        handled[signal.SIGUSR1] = handlers.on_save
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        handled[signal.SIGHUP] = handlers.on_stop
    before = {number: signal.signal(number, handler) for number, handler in handled.items()}
    if hasattr(signal, "SIGCHLD"):
        data_wait.on_workers = handlers.watch_workers
    try:
        yield
    finally:
        data_wait.missed_request = data_wait.on_workers = None
        if handlers.is_watching:
            before[signal.SIGCHLD] = handlers.before_watching
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


class _Handlers:
    """The signal handlers of a run.

    Attributes:
        is_watching: Whether `watch_workers` has replaced the SIGCHLD handler. If so, `before_watching` is the original
            one.
    """

    def __init__(self, runner: "Runner") -> None:
        self._runner, self._requests = runner, runner.requests
        self._process = os.getpid()
        self._first_end_at: float | None = None  # the time of the first SIGINT or SIGTERM
        self.is_watching = False
        self.before_watching: Any = None

    def on_save(self, number: int, frame: FrameType | None) -> None:
        """Requests a save."""
        requests = self._requests
        requests.own.save = True
        requests.pending = requests.pending or requests.is_alone

    def on_stop(self, number: int, frame: FrameType | None) -> None:
        """Requests a stop, and interrupts the loop if it is waiting for a batch."""
        if os.getpid() != self._process:
            return  # in a forked worker, which its loader will stop
        if number in END_SIGNALS:
            now = time.monotonic()
            if self._first_end_at is not None and now - self._first_end_at > _SAME_REQUEST:
                print_urgent(f"{signal.Signals(number).name} again: exiting at once without saving.")
                os._exit(128 + number)
            self._first_end_at = self._first_end_at or now
        requests = self._requests
        if requests.own.signal:
            return
        requests.own.signal = number
        if requests.is_alone:
            requests.announce_stop()
            data_wait.missed_request = self._interrupt_wait
            self._interrupt_wait()

    def watch_workers(self) -> None:
        """Installs the SIGCHLD handler, or installs it again if torch has replaced it to watch its first worker."""
        handler = signal.getsignal(signal.SIGCHLD)
        if threading.current_thread() is threading.main_thread() and handler != self._on_end_of_child:
            self.is_watching, self.before_watching = True, handler
            signal.signal(signal.SIGCHLD, self._on_end_of_child)

    def _on_end_of_child(self, number: int, frame: FrameType | None) -> None:
        try:
            if callable(self.before_watching):
                self.before_watching(number, frame)
            else:  # torch installs its handler only once per process, and it has since been removed
                torch._C._error_if_any_worker_fails()
        except RuntimeError as error:
            is_of_worker = is_worker_death(error)  # otherwise, a user's handler raised it
            if not is_of_worker or os.getpid() != self._process:
                raise
            if self._may_raise(self._requests.waits_for_batch or "val" in self._runner.phases):
                raise
            self._requests.lost_worker, self._requests.pending = error.with_traceback(None), True

    def _interrupt_wait(self) -> None:
        if self._may_raise(self._requests.waits_for_batch):
            raise InterruptedWaitError

    def _may_raise(self, is_expected: bool) -> bool:
        """Checks whether a signal handler may raise an error now: the run must expect one and be waiting for a batch.

        After returning True, returns False until the process waits for the next batch.
        """
        may_raise = is_expected and data_wait.is_interruptible
        data_wait.is_interruptible = data_wait.is_interruptible and not may_raise
        return may_raise
