"""Ends a command that receives a signal. During training, `footplate.engine.signals` handles signals instead."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_SIGNALED = 128  # added to the signal number, this is the exit code of a process that a signal ended


class StopSignal(KeyboardInterrupt):
    """A signal asked the process to exit.

    Args:
        number: The number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = _SIGNALED + number


@contextlib.contextmanager
def raising_stop_signals(is_wanted: bool) -> Iterator[None]:
    """Raises StopSignal on SIGTERM and SIGHUP within the block, so that the command can print why it exits.

    Signals that are ignored, such as SIGHUP under `nohup`, stay ignored. SIGINT raises KeyboardInterrupt in any case.

    Args:
        is_wanted: Whether to raise StopSignal. If False, the context manager has no effect.
    """
    process, numbers = os.getpid(), [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise StopSignal(number)
        signal.signal(number, signal.SIG_DFL)  # a forked worker ends silently
        os.kill(os.getpid(), number)

    is_main = threading.current_thread() is threading.main_thread()
    replaced = [each for each in numbers if is_wanted and is_main and signal.getsignal(each) == signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)


def exit_code_of(error: KeyboardInterrupt | SystemExit) -> int:
    """Returns the exit code of a command that an interrupt or `sys.exit` ends."""
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "exit_code", _SIGNALED + signal.SIGINT))
    return error.code if isinstance(error.code, int) else int(error.code is not None)
