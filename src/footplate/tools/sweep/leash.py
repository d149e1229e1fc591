"""Connects a sweep to the processes of its trials, so that they end together."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType

from footplate.engine.signals import Requests
from footplate.records.standard_streams import print_urgent

_UNTIL_BOTH_KNOW = 0.3  # seconds after which a terminal interrupt that reached the sweep has reached its trials too
_ONE_WISH = 0.5  # seconds in which a repeated interrupt is the same request, sent to a process and its group
_ONCE_MORE = ": trials finish their iterations and save; once more leaves at once"


class Leash:
    """Controls the processes of trials; a released trial ends like an interrupted run and saves.

    Each trial holds one end of a pipe without data. The pipe closes when the sweep releases the trial or is killed.
    """

    def __init__(self) -> None:
        self.gone = False
        self._held: set[BaseProcess] = set()
        self._ends: dict[BaseProcess, Connection] = {}
        self._silent = False
        self._asked_at = math.inf

    @contextmanager
    def answering_interrupts(self) -> Iterator[None]:
        """Releases the trials at the first interrupt and kills them at the second; both raise KeyboardInterrupt.

        Has no effect outside the main thread, since only the main thread can handle signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
        if self.gone:  # the KeyboardInterrupt may have been swallowed
            raise KeyboardInterrupt

    def start(self, process: BaseProcess, end: Connection) -> None:
        """Starts a process with SIGINT blocked, and keeps track of it.

        Raises:
            KeyboardInterrupt: There was an interrupt meanwhile.
        """
        self._ends[process] = end
        if self.gone:
            raise KeyboardInterrupt
        resource_tracker.ensure_running()  # starting it later would unblock interrupts
        self._silent = threading.current_thread() is threading.main_thread()
        self._held.add(process)
        _hold_interrupts()  # an interrupt during its imports would print a traceback, with nothing to save
        try:
            process.start()
        finally:
            _take_interrupts()
            self._silent = False
        if self.gone:
            raise KeyboardInterrupt

    def end(self, process: BaseProcess, *, patience: float | None) -> None:
        """Releases a process and waits until it ends; kills it after `patience` seconds, never if None."""
        self._let_go(process)
        try:
            if process.pid is not None:  # the process was started
                process.join(timeout=patience)
        finally:
            if process.pid is not None and process.is_alive():
                process.kill()
            self._held.discard(process)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.gone and time.monotonic() - self._asked_at <= _ONE_WISH:
            return
        self._asked_at = min(self._asked_at, time.monotonic())
        again, self.gone = self.gone, True
        words = " again: leaving at once, nothing more is saved" if again else _ONCE_MORE
        if self._held:
            print_urgent(f"{signal.Signals(number).name}{words}", exiting=again)
        for process in list(self._held):
            if again and process.pid is not None:
                process.kill()
            self._let_go(process)
        if not self._silent:
            raise KeyboardInterrupt

    def _let_go(self, process: BaseProcess) -> None:
        end = self._ends.pop(process, None)  # pop first: closing a descriptor twice could close an unrelated file
        if end is not None:
            end.close()


class Interrupts:
    """Handles interrupts in the process of a trial, while no training handles them.

    Remembers an interrupt, since other code may swallow the exception.

    Args:
        held: A pipe without data, which closes when the sweep releases the trial or dies.

    Attributes:
        run: The signal requests of the training, once it runs.
    """

    def __init__(self, held: Connection) -> None:
        self._held = held
        self._here = False
        self._asked_at = math.inf
        self.run: Requests | None = None  # set by the training's own handlers

    @property
    def came(self) -> bool:
        """Whether there was an interrupt."""
        return self._here or (self.run is not None and self.run.stop is not None)

    def check(self) -> None:
        """Raises KeyboardInterrupt again if there was an interrupt."""
        if self.came:
            raise KeyboardInterrupt

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Accepts interrupts inside the block, starting with one that was pending since the process started.

        Ignores interrupts after the block, since the process is about to exit.
        """
        # A process that inherits ignored interrupts has no Python handler, so install one.
        signal.signal(signal.SIGINT, self._note)
        threading.Thread(target=self._follow, daemon=True).start()
        _take_interrupts()
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._here:
            self._here, self._asked_at = True, time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._asked_at > _ONE_WISH:
            os._exit(128 + number)

    def _follow(self) -> None:
        """Interrupts the process when the sweep releases it, unless the terminal has interrupted both."""
        with suppress(EOFError, OSError):
            self._held.recv_bytes()
        time.sleep(_UNTIL_BOTH_KNOW)
        if not self.came:
            os.kill(os.getpid(), signal.SIGINT)


def _hold_interrupts() -> None:
    """Blocks interrupts in this thread and in processes it starts, until `_take_interrupts`."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _take_interrupts() -> None:
    """Unblocks interrupts; a pending one is delivered at once."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
