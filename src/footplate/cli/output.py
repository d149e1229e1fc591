"""Opens, writes and flushes the standard streams of a command."""

import contextlib
import logging
import os
import select
import sys
import traceback

from footplate.messages import PrintableFormatter, printable

_STDERR = 2  # the highest descriptor of a standard stream


def print_text(text: str) -> None:
    """Writes text to standard output; control characters are escaped, see `printable`."""
    sys.stdout.write(printable(text))


def print_error(text: str) -> None:
    """Writes text to standard error; control characters are escaped."""
    sys.stderr.write(printable(text))


def open_streams() -> None:
    """Prepares the standard streams at the start of a command.

    Opens closed streams (`>&-`), because otherwise another file would get their descriptor and the output. Escapes
    control characters in tracebacks, and in warnings of commands without a log.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STDERR:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - stays open until exit
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter("%(message)s"))
    sys.excepthook = lambda *error: print_error("".join(traceback.format_exception(*error)))


def output_has_reader() -> bool:
    """Checks whether something reads standard output; False for a pipe whose reader has exited, such as `| head`."""
    if not hasattr(select, "poll"):
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return not any(events & select.POLLERR for _, events in poll.poll(0))
    except (OSError, ValueError):  # no file
        return True


def flush_output() -> None:
    """Flushes standard output. If that fails, discards it, because Python would fail again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # not a file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
