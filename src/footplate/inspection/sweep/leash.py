"""How a sweep and the processes of its trials end together."""

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
from footplate.records.urgent import say_at_once

_UNTIL_BOTH_KNOW = 0.3  # seconds in which an interrupt of the terminal has reached a trial, if it has reached the sweep
_ONE_WISH = 0.5  # seconds in which an interrupt that comes again is the same wish, sent to a process and to its group
_ONCE_MORE = ": trials finish their iterations and save; once more leaves at once"


class Leash:
    """What holds the trials at work: let go, each ends as a run that is interrupted does, saved.

    A trial that is started is at the other end of a pipe that says nothing. When the sweep lets go of it, or is killed,
    the trial sees the pipe end.
    """

    def __init__(self) -> None:
        self.gone = False
        self._held: set[BaseProcess] = set()
        self._ends: dict[BaseProcess, Connection] = {}
        self._silent = False
        self._asked_at = math.inf

    @contextmanager
    def answering_interrupts(self) -> Iterator[None]:
        """Lets go at an interrupt, ends the trials' processes at the second one; each raises KeyboardInterrupt.

        Only the main thread can answer: elsewhere nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before if before is not None else signal.SIG_DFL)
        if self.gone:  # what was raised may have been swallowed
            raise KeyboardInterrupt

    def start(self, process: BaseProcess, end: Connection) -> None:
        """Starts a process, with interrupts held back from it, and holds it.

        Raises:
            KeyboardInterrupt: There was an interrupt meanwhile.
        """
        self._ends[process] = end
        if self.gone:
            raise KeyboardInterrupt
        resource_tracker.ensure_running()  # whose start lets interrupts through again
        self._silent = threading.current_thread() is threading.main_thread()
        self._held.add(process)
        _hold_interrupts()  # while it imports, it has nothing to save: it would show a traceback
        try:
            process.start()
        finally:
            _take_interrupts()
            self._silent = False
        if self.gone:
            raise KeyboardInterrupt

    def end(self, process: BaseProcess, *, patience: float | None) -> None:
        """Lets go of a process and waits until it has ended, and kills it if it has not after so many seconds."""
        self._let_go(process)
        try:
            if process.pid is not None:  # it could be started
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
            say_at_once(f"{signal.Signals(number).name}{words}", leaving=again)
        for process in list(self._held):
            if again and process.pid is not None:
                process.kill()
            self._let_go(process)
        if not self._silent:
            raise KeyboardInterrupt

    def _let_go(self, process: BaseProcess) -> None:
        end = self._ends.pop(process, None)  # by one of us: closed twice, its number may be another file's by then
        if end is not None:
            end.close()


class Interrupts:
    """Interrupts of a trial's process, which is the only one in it to know of them while no training runs.

    One that has come is remembered: the exception that it raises may meet code that swallows it.

    Args:
        held: A pipe that says nothing, and ends when the sweep lets go of the trial, or is gone.
    """

    def __init__(self, held: Connection) -> None:
        self._held = held
        self._here = False
        self._asked_at = math.inf
        self.run: Requests | None = None  # what the training's own handlers note

    @property
    def came(self) -> bool:
        """Whether there was one."""
        return self._here or (self.run is not None and self.run.stop is not None)

    def check(self) -> None:
        """Raises KeyboardInterrupt once more if there was one."""
        if self.came:
            raise KeyboardInterrupt

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Lets interrupts in while the block runs, at once one that has waited since the process was started.

        Behind it the process leaves, and none counts.
        """
        # A process that is started where interrupts are ignored ignores them too, and has no handler of Python's.
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
        """Interrupts the process when the sweep lets go of it, unless the terminal has: it interrupts both."""
        with suppress(EOFError, OSError):
            self._held.recv_bytes()
        time.sleep(_UNTIL_BOTH_KNOW)
        if not self.came:
            os.kill(os.getpid(), signal.SIGINT)


def _hold_interrupts() -> None:
    """Holds interrupts back from this thread and from processes that it starts, until `_take_interrupts`."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _take_interrupts() -> None:
    """Lets interrupts through again, one that waited at once."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
