"""Signals: what a run is asked to do from outside, answered between two iterations."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_SAVING = getattr(signal, "SIGUSR1", None)


class Interrupted(SystemExit):
    """Ends the process with 130 after SIGINT and 143 after SIGTERM, when the run is saved.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class Requests:
    """What is to be done when the present iteration is over.

    A training loop looks at `pending` after each iteration, and at nothing else.
    """

    def __init__(self) -> None:
        self.pending = False
        self.save = False
        self.stop: int | None = None
        self._process = os.getpid()

    def alarm(self) -> None:
        """Has the loop look around; called from any thread."""
        self.pending = True

    @contextmanager
    def from_signals(self) -> Iterator[None]:
        """Takes SIGINT and SIGTERM for a wish to stop, SIGUSR1 for one to save, while the block runs.

        The second SIGINT or SIGTERM leaves at once. Only the main thread can take signals; elsewhere nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.pending, self.save, self.stop, self._process = False, False, None, os.getpid()
        handlers: dict[int, Any] = dict.fromkeys(_STOPPING, self._on_stop)
        if _SAVING is not None:
            handlers[_SAVING] = self._on_save
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker, forked from this process: it ends with its loader
        name = signal.Signals(number).name
        if self.stop is not None:
            os.write(2, f"{name} again: leaving at once, nothing more is saved\n".encode())
            os._exit(128 + number)
        os.write(2, f"{name}: finishing the iteration, then saving; once more leaves at once\n".encode())
        self.stop, self.pending = number, True

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            self.save = self.pending = True
