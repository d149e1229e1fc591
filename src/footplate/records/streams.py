"""Keeps a run alive if standard output or standard error fails."""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

_logger = logging.getLogger("footplate.records")
_GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe is gone, or a terminal is closed


class _Surviving:
    """Wraps a stream and suppresses its errors."""

    def __init__(self, name: str, stream: Any) -> None:
        self._name, self._stream = name, stream
        self._told = False

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

    def end(self) -> None:
        """Discards unwritten text, because Python would otherwise fail to write it again when the process ends."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()
        except ValueError:  # the stream is closed
            return

    @contextlib.contextmanager
    def _suppressed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _GONE:
                self._give_up()
            if not self._told:
                self._told = True
                _logger.warning("what goes to %s is lost (%s); the run goes on", self._name, error.strerror)

    def _give_up(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def surviving_streams() -> Iterator[None]:
    """Suppresses errors of printing within the block, such as a broken pipe, a closed terminal or a full disk.

    Text that cannot be written is lost, which is logged once.
    """
    lent = {}
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Surviving):
            lent[name] = stream, _Surviving(f"standard {_WORDS[name]}", stream)
            setattr(sys, name, lent[name][1])
    try:
        yield
    finally:
        for name, (stream, own) in lent.items():
            own.end()
            if getattr(sys, name) is own:
                setattr(sys, name, stream)


_WORDS = {"stdout": "output", "stderr": "error"}
