"""Opens standard streams at the start of a command, and flushes them before its exit code is decided."""

import contextlib
import logging
import os
import select
import sys
import traceback

from footplate.messages import PrintableFormatter, printable

_STANDARD = 2  # the highest descriptor of a standard stream


def say(text: str) -> None:
    """Writes text to standard output without control characters, see `printable`."""
    sys.stdout.write(printable(text))


def say_error(text: str) -> None:
    """Writes text to standard error without control characters."""
    sys.stderr.write(printable(text))


def clean_errors() -> None:
    """Removes control characters from tracebacks, and from warnings of commands without a log."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter("%(message)s"))
    sys.excepthook = lambda *error: say_error("".join(traceback.format_exception(*error)))


def open_streams() -> None:
    """Opens closed standard streams (`>&-`); otherwise another file would get their descriptor and the output."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STANDARD:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - stays open until exit


def output_has_reader() -> bool:
    """Checks whether standard output is read; returns False for a pipe whose reader has exited, such as `| head`."""
    if not hasattr(select, "poll"):
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return not any(events & select.POLLERR for _, events in poll.poll(0))
    except (OSError, ValueError):  # no file
        return True


def settle_output() -> None:
    """Flushes standard output, or discards it if that fails, since Python would fail again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # not a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
