"""Converts signals and worker deaths into requests for the training loop."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from footplate.data import is_worker_death
from footplate.data.waiting import data_wait
from footplate.engine.control.process_setup import is_notebook
from footplate.engine.control.requests import END_SIGNALS, Requests
from footplate.interrupts import REPEAT_INTERVAL, SIGNALED
from footplate.records.logger import print_urgent
from footplate.torch_internals import worker_death_handler


@contextmanager
def handling_signals(requests: Requests) -> Iterator[None]:
    """Handles signals inside the block: SIGINT, SIGTERM and SIGHUP request a stop, SIGUSR1 requests a save.

    A second SIGINT or SIGTERM exits immediately without saving, unless it arrives within half a second of the first. In
    a notebook, a second SIGINT raises KeyboardInterrupt instead, so that the kernel keeps its variables. A second
    SIGHUP does not exit, because a closing terminal may send several. Under `nohup`, SIGHUP is ignored.

    If a loader worker dies, torch raises an error at an arbitrary point in this process. This context manager defers
    the error to the end of the iteration.

    Has no effect outside the main thread, because Python delivers signals only there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = _Handlers(requests)
    handled: dict[int, Any] = dict.fromkeys(END_SIGNALS, handlers.on_stop)
    if hasattr(signal, "SIGCHLD"):  # Windows lacks these signals
        handled[signal.SIGUSR1] = lambda *_: requests.request_save()
        handled[signal.SIGCHLD] = partial(handlers.on_end_of_child, worker_death_handler())
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            handled[signal.SIGHUP] = handlers.on_stop
    before = {number: signal.signal(number, handler) for number, handler in handled.items()}
    try:
        yield
    finally:
        data_wait.reset()
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


_mask = threading.local()  # the forking thread's signal mask before the fork


def _before_fork() -> None:
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # a handler may raise an error in the next call
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _restore_mask() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _after_fork_in_child() -> None:
    try:
        if isinstance(getattr(signal.getsignal(signal.SIGTERM), "__self__", None), _Handlers):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    finally:
        _restore_mask()


# multiprocessing.Pool ends its processes with SIGTERM, possibly as soon as they are forked, and waits for them.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_restore_mask, after_in_child=_after_fork_in_child)


class _Handlers:
    """The signal handlers of a run."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._process = os.getpid()
        self._first_end_at = 0.0  # the time of the first SIGINT or SIGTERM

    def on_stop(self, number: int, frame: FrameType | None) -> None:
        """Requests a stop, and interrupts the loop if it is waiting for a batch."""
        if os.getpid() != self._process:
            return  # in a forked worker, which its loader will stop
        if number in END_SIGNALS:
            now = time.monotonic()
            self._first_end_at = self._first_end_at or now
            if now - self._first_end_at > REPEAT_INTERVAL:
                if number == signal.SIGINT and is_notebook():
                    raise KeyboardInterrupt
                print_urgent(f"Another stop signal ({signal.Signals(number).name}): exiting at once without saving.")
                os._exit(SIGNALED + number)
        self._requests.request_stop(number)

    def on_end_of_child(self, previous: Any, number: int, frame: FrameType | None) -> None:
        """Calls the previous handler. Defers an error about a dead worker unless the loop is waiting for data."""
        try:
            previous(number, frame)
        except RuntimeError as error:
            if os.getpid() != self._process or not is_worker_death(error):
                raise  # in a forked worker, or from a user's handler
            self._requests.report_worker_death(error.with_traceback(None))
