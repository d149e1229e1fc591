"""Raises an exception when a command receives a stop signal.

During training, `footplate.engine.control.signals` handles signals instead.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from footplate.launchers import is_launched

SIGNALED = 128  # a process that was ended by a signal exits with this code plus the signal number
REPEAT_INTERVAL = 0.5  # seconds; a signal repeated sooner counts once, because `timeout` sends each signal twice


class StopSignal(KeyboardInterrupt):
    """Raised when a signal asks the process to exit."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = SIGNALED + number


@contextlib.contextmanager
def raising_stop_signals(is_wanted: bool) -> Iterator[None]:
    """Raises StopSignal on SIGTERM and SIGHUP within the block, so that the command can clean up and report the signal.

    Signals that are ignored (such as SIGHUP under `nohup`) or already have a handler are left unchanged. Outside the
    main thread, the context manager has no effect. SIGINT raises KeyboardInterrupt, as usual in Python.

    Args:
        is_wanted: Whether to raise StopSignal. If False, the context manager has no effect.
    """
    process = os.getpid()
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    raised: list[StopSignal] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raised.append(StopSignal(number))
            raise raised[-1]
        signal.signal(number, signal.SIG_DFL)  # a forked worker ends silently
        os.kill(os.getpid(), number)

    is_main = threading.current_thread() is threading.main_thread()
    replaced = [number for number in numbers if is_wanted and is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in replaced:
            if signal.getsignal(number) is stop:  # the code in the block may have set another handler
                signal.signal(number, signal.SIG_DFL)
        if raised:
            raise raised[-1]  # again, because the code in the block may have swallowed it


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[str]:
    """Creates a temporary folder, yields its path, and removes the folder at the end of the block.

    SIGTERM and SIGHUP raise StopSignal, so that the folder is removed. This does not apply to ranks started by a
    launcher: when the launcher ends them with SIGTERM, they must not report a failure.
    """
    import tempfile  # imported here, because every command imports this module

    with raising_stop_signals(not is_launched()), tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield folder
