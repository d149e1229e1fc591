"""Suppresses write errors on stdout and stderr, and prints messages from signal handlers."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from footplate.messages import printable

_logger = logging.getLogger("footplate.records")
_DISCONNECTED = (errno.EPIPE, errno.EIO)  # the reader of a pipe is gone, or a terminal is closed

# Functions of live displays that adapt an urgent message, given the text and whether the process is exiting.
SCREENS: list[Callable[[str, bool], str]] = []


class _SurvivingStream:
    """Wraps a stream and suppresses its write errors."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name, self._stream = name, stream
        self._has_warned = False

    def write(self, text: str) -> int:
        with self._suppressed():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        with self._suppressed():
            self._stream.writelines(lines)

    def flush(self) -> None:
        with self._suppressed():
            self._stream.flush()

    def release(self) -> None:
        """Discards text that cannot be written, because Python would fail to flush it at exit."""
        try:
            self._stream.flush()
        except OSError:
            self._redirect_to_null()
        except ValueError:  # the stream is closed
            return

    @contextlib.contextmanager
    def _suppressed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _DISCONNECTED:
                self._redirect_to_null()
            if not self._has_warned:
                self._has_warned = True
                _logger.warning(
                    "Cannot write to %s (%s). The text is lost, but the run continues.", self._name, error.strerror
                )

    def _redirect_to_null(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def surviving_streams() -> Iterator[None]:
    """Suppresses print errors within the block, such as those of a broken pipe, a closed terminal or a full disk.

    Text that cannot be written is lost, and a warning is logged once.
    """
    replaced = {}
    for name, title in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _SurvivingStream):
            replaced[name] = stream, _SurvivingStream(title, stream)
            setattr(sys, name, replaced[name][1])
    try:
        yield
    finally:
        for name, (stream, surviving) in replaced.items():
            surviving.release()
            if getattr(sys, name) is surviving:
                setattr(sys, name, stream)


def print_urgent(line: str, *, exiting: bool = False) -> None:
    """Writes a line to standard error from a signal handler, bypassing buffers that the process may be using.

    The line is lost if the stream is closed.

    Args:
        line: The line without a newline.
        exiting: Whether the process exits afterwards without any cleanup.
    """
    if sys.__stderr__ is None:
        return  # file descriptor 2 may belong to another file, such as a checkpoint
    text = f"{printable(line)}\n"
    for adapt in SCREENS:
        text = adapt(text, exiting)
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
