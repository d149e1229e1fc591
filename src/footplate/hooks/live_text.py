"""Lines that stay at the bottom of a terminal while others are written above them."""

import io
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_CLEAR_BELOW = "\x1b[J"
# Terminals may tell their width late, tmux after a quarter of a second: until then long lines are cut, not wrapped.
_CUT, _WRAP = "\x1b[?7l", "\x1b[?7h"
_LATE = 0.5  # seconds


class LiveText:
    """Draws lines over the ones it drew before, in one write each, so that nothing flickers.

    While it is open it stands in for standard output and standard error: what is written there appears above the
    lines. A terminal that was made narrower has wrapped them meanwhile, which is taken into account.

    Args:
        screen: The terminal.
    """

    def __init__(self, screen: TextIO) -> None:
        self._screen = screen
        self._console = Console(file=screen, highlight=False)
        self._drawn: list[str] = []
        self._drawn_width = 0
        self._written_at = -math.inf
        self._lines: Sequence[Text] = ()
        self._streams: list[tuple[str, TextIO]] = []

    @property
    def width(self) -> int:
        """The columns of the terminal now."""
        try:
            told = os.get_terminal_size(self._screen.fileno()).columns
        except (OSError, ValueError):
            told = 0
        return told or shutil.get_terminal_size().columns

    def open(self) -> None:
        """Takes over the streams that lead to a terminal."""
        self._screen.write(_HIDE_CURSOR)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is self._screen or stream.isatty():
                self._streams.append((name, stream))
                setattr(sys, name, _Above(self, stream))

    def close(self) -> None:
        """Leaves the lines where they are and gives the streams back."""
        for name, stream in self._streams:
            setattr(sys, name, stream)
        self._streams.clear()
        self._put(self._erased() + self._rendered() + ("\n" if self._drawn else "") + _SHOW_CURSOR)
        self._drawn = []

    def show(self, lines: Sequence[Text]) -> None:
        """Draws lines in place of those before; each is cut to the width of the terminal."""
        self._lines = lines
        self._put(self._erased() + self._rendered())

    def write_above(self, text: str) -> None:
        """Writes whole lines above."""
        self._written_at = time.monotonic()
        self._put(self._erased() + text + self._rendered())

    def _rendered(self) -> str:
        self._drawn_width = self.width
        width = self._drawn_width - 1  # a full last column would wrap at the next resize
        parts = []
        self._drawn = []
        for line in self._lines:
            cut = line.copy()
            cut.truncate(width, overflow="ellipsis")
            with self._console.capture() as captured:
                self._console.print(cut, end="", soft_wrap=True)
            parts.append(captured.get())
            self._drawn.append(cut.plain)
        return _CUT + "\n".join(parts) + _WRAP if parts else ""

    def _erased(self) -> str:
        if not self._drawn:
            return ""
        width = max(self.width, 1)
        rows = sum(max(1, math.ceil(cell_len(line) / width)) for line in self._drawn)
        if width < self._drawn_width and time.monotonic() - self._written_at < _LATE:
            rows = len(self._drawn)  # what was written may stand where they wrapped: rather a torn line than one lost
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        return f"\r{up}{_CLEAR_BELOW}"

    def _put(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()


class _Above(io.TextIOBase):
    """A stream whose whole lines are written above the live ones."""

    def __init__(self, live: LiveText, stream: TextIO) -> None:
        self._live, self._stream = live, stream
        self._rest = ""

    def write(self, text: str) -> int:
        lines, mark, self._rest = (self._rest + text).rpartition("\n")
        if mark:
            self._live.write_above(lines + mark)
        return len(text)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding
