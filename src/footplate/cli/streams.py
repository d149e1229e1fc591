"""The streams of a command: open from the beginning, and flushed before its exit code is decided."""

import contextlib
import logging
import os
import select
import sys
import traceback

from footplate.messages import PrintableFormatter, printable

_STANDARD = 2  # the highest number of a standard stream


def say(text: str) -> None:
    """Writes what a command has to say to standard output, without control characters, see `printable`."""
    sys.stdout.write(printable(text))


def say_error(text: str) -> None:
    """Writes to standard error as `say` does to standard output."""
    sys.stderr.write(printable(text))


def clean_errors() -> None:
    """Removes control characters from tracebacks, and from warnings of commands that open no log."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter("%(message)s"))
    sys.excepthook = lambda *error: say_error("".join(traceback.format_exception(*error)))


def open_streams() -> None:
    """Opens what is closed, `>&-`: a file that is opened later would get its number, and all that is said with it."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STANDARD:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process lives


def output_has_reader() -> bool:
    """Checks whether what is printed can be read: False where it goes to a pipe whose reader has gone, `| head`."""
    if not hasattr(select, "poll"):
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return not any(events & select.POLLERR for _, events in poll.poll(0))
    except (OSError, ValueError):  # no file
        return True


def settle_output() -> None:
    """Writes what is still held, or sends it nowhere: Python would fail over it once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # it is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
