"""Displays of a few lines that are updated in place: at the bottom of a terminal, or in a notebook cell."""

import atexit
import html
import importlib
import io
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from footplate.messages import one_line
from footplate.records import show_iterations
from footplate.records.logger import SCREENS

_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"
# Clears everything after the cursor in two steps: tmux adds text that is cleared from the first row to its history.
_CLEAR = f"\r\x1b7\x1b[B{_CLEAR_BELOW}\x1b8{_CLEAR_LINE}"
# Terminals may report a new width with a delay (tmux: 0.25 s). Until then, long lines are cut, not wrapped.
_CUT, _WRAP = "\x1b[?7l", "\x1b[?7h"
# Terminals that support these sequences show everything between them at once.
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
_RESIZED: int = getattr(signal, "SIGWINCH", 0)
_SUSPENDED: int = getattr(signal, "SIGTSTP", 0)
_CONTINUED: int = getattr(signal, "SIGCONT", 0)
_DRAGGING = 1.0  # the seconds for which more changes of the width are likely after a change
_MIN_COLUMNS = 40  # unless the terminal is narrower
_ROWS_PER_LINE = 4  # the maximum number of rows of a wrapped line
_SECONDS_BETWEEN = 0.2  # the minimum time between two updates in a notebook
# Each color has a contrast of at least 4:1 with the page, in a light and in a dark theme.
_COLORS = {"green": "#238636", "cyan": "#0e8399", "yellow": "#9a6f00"}
_PAGE_STYLE = (
    "margin:0;padding:0 var(--jp-code-padding,0);white-space:pre;overflow-x:auto;background:none;color:inherit;"
    # Notebooks show text that is not preformatted in a proportional font, in which bars are uneven.
    "font:var(--jp-code-font-size,13px)/1.3 var(--jp-code-font-family,var(--vscode-editor-font-family,monospace))"
)


class LiveTerminal:
    """Redraws its lines in place, in a single write and without blank lines in between, to avoid flicker.

    While it is open, it replaces standard output and standard error: text that is written there appears above the
    lines.

    The cursor stays at the start of the first line. When the width of a terminal changes, it rewraps the lines but
    keeps the cursor on its character, so all leftover rows are below the cursor. tmux scrolls up by the number of rows
    that wrapping adds, so some rows above the lines must stay free: when the terminal becomes narrower, the lines move
    away from the top row.

    Ctrl-Z releases the terminal until the process continues. Nothing is drawn while the process is in the background.

    Args:
        screen: The terminal.
        on_resume: Called when the process continues after Ctrl-Z, with the number of seconds that it was suspended.
    """

    def __init__(self, screen: TextIO, on_resume: Callable[[float], None] = lambda seconds: None) -> None:
        self._screen, self._on_resume = screen, on_resume
        self._console = Console(file=screen, highlight=False)
        self._lines: Sequence[Text] = ()
        self._streams: list[tuple[str, TextIO]] = []
        self._lock = threading.RLock()
        self._writer: int | None = None  # the thread that is writing
        self._postponed: list[Callable[[], None]] = []  # signal handlers to run after the current write
        self._process = os.getpid()
        self._previous_handlers: dict[int, Any] = {}
        self._is_cursor_hidden = False
        self._columns = self._rows_above = 0
        self._dragged_until = -math.inf

    @property
    def width(self) -> int:
        """The number of columns available to lines. During a resize, it is half the terminal width to avoid wraps."""
        columns = self._size().columns
        return max(columns // 2, min(columns, _MIN_COLUMNS)) if time.monotonic() < self._dragged_until else columns

    def open(self) -> None:
        """Replaces the streams that write to the terminal, and the handlers of the signals that affect the display."""
        self._put(self._hide_cursor)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is self._screen or stream.isatty():
                self._streams.append((name, stream))
                setattr(sys, name, _StreamAbove(self, stream))
        SCREENS.append(self._adapt_urgent)
        atexit.register(self.close)
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread can handle signals
        handlers = {_RESIZED: self._redraw_after, _CONTINUED: self._redraw_after, _SUSPENDED: self._on_suspend}
        for number, handler in handlers.items():
            before = signal.getsignal(number) if number else None
            if before is None or (number == _SUSPENDED and before == signal.SIG_IGN):
                continue  # Python did not install the current handler, or the process must not be suspended
            self._previous_handlers[number] = before
            signal.signal(number, handler)
            if number != _SUSPENDED:
                signal.siginterrupt(number, False)  # restart interrupted system calls

    def close(self) -> None:
        """Leaves the lines on the screen and releases the terminal."""
        if os.getpid() != self._process or self._adapt_urgent not in SCREENS:
            return
        SCREENS.remove(self._adapt_urgent)
        atexit.unregister(self.close)
        for number, before in self._previous_handlers.items():
            signal.signal(number, before)
        self._previous_handlers.clear()
        rest = ""  # the text of unfinished lines, which must not be lost
        for name, stream in self._streams:
            above = getattr(sys, name)
            if isinstance(above, _StreamAbove):
                rest += above.rest
                setattr(sys, name, stream)
        self._streams.clear()
        self._put(lambda: self._release(rest))

    def show(self, lines: Sequence[Text]) -> None:
        """Draws lines in place of the previous ones. Each line is truncated to the width of the terminal."""
        self._lines = lines
        if not self._is_in_background():
            self._put(lambda: _BEGIN + self._hide_cursor() + (self._draw() if lines else _CLEAR) + _END)

    def write_above(self, text: str) -> None:
        """Writes complete lines above the live ones."""
        self._rows_above += text.count("\n")
        if self._is_in_background():
            self._put(lambda: text)
        else:
            self._put(lambda: _BEGIN + (_CLEAR if self._lines else "") + text + self._draw() + _END)

    def _draw(self, then: str = "") -> str:
        """Returns the output that draws as many lines as fit, followed by `then` or a move back to the first line."""
        size = self._size()
        lines = self._lines[: max(size.lines - 1, 1)]
        if not lines:
            return ""
        before, self._columns = self._columns, size.columns
        most = size.lines - len(lines)
        self._rows_above = min(self._rows_above, most)
        begin = ""
        if before and size.columns != before:
            self._dragged_until = time.monotonic() + _DRAGGING
        if size.columns < before:  # the terminal has wrapped the lines, so they need more rows
            above = max(self._rows_above - len(lines) * math.ceil(before / size.columns), 0)
            self._rows_above = max(above, min(_ROWS_PER_LINE * len(lines), most))
            begin = f"{_CLEAR}\x1b[{self._rows_above - above}B" if self._rows_above > above else ""
        drawn = []
        for line in lines:
            plain = one_line(line.plain)
            cut = line.copy() if plain == line.plain else Text(plain)
            cut.truncate(max(self.width - 1, 1), overflow="ellipsis")  # a full last column would wrap at a resize
            with self._console.capture() as captured:
                self._console.print(cut, end="", soft_wrap=True)
            drawn.append(captured.get() + _CLEAR_LINE)
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        return begin + f"\r{_CUT}" + "\n".join(drawn) + _CLEAR_BELOW + _WRAP + (then or f"\r{up}")

    def _size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._screen.fileno())
        except (OSError, ValueError):
            size = os.terminal_size((0, 0))
        usual = shutil.get_terminal_size()
        return os.terminal_size((size.columns or usual.columns, size.lines or usual.lines))

    def _put(self, make: Callable[[], str]) -> None:
        """Writes the text that `make` returns. Calls `make` while no other thread is writing."""
        if os.getpid() != self._process:  # a forked worker; another thread may have held the lock at the fork
            self._write(make())
            return
        with self._lock:
            before, self._writer = self._writer, threading.get_ident()
            try:
                self._write(make())
            finally:
                self._writer = before
        if before is None and threading.current_thread() is threading.main_thread():
            postponed, self._postponed = self._postponed, []
            for act in postponed:
                act()

    def _write(self, text: str) -> None:
        self._screen.write(text)
        self._screen.flush()

    def _redraw_after(self, number: int, frame: FrameType | None) -> None:
        """Redraws the lines when the terminal is resized or the process returns to the foreground.

        The next update may be far off. A write in progress already uses the new width.
        """
        if os.getpid() == self._process:
            self._is_cursor_hidden = self._is_cursor_hidden and number != _CONTINUED
            if self._writer is None and self._lines:
                self.show(self._lines)
        before = self._previous_handlers.get(number)
        if callable(before):
            before(number, frame)

    def _on_suspend(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker
            _stop_process()
        elif self._writer == threading.get_ident():
            self._postponed.append(self._suspend)
        else:
            self._suspend()

    def _suspend(self) -> None:
        """Releases the terminal and stops the process until it is continued."""
        self._put(self._release)
        began = time.perf_counter()
        _stop_process()
        self._on_resume(time.perf_counter() - began)
        if _SUSPENDED in self._previous_handlers:
            signal.signal(_SUSPENDED, self._on_suspend)

    def _hide_cursor(self) -> str:
        """Returns the sequence that hides the cursor, unless it is hidden or the process is in the background."""
        if self._is_cursor_hidden or self._is_in_background():
            return ""
        self._is_cursor_hidden = True
        return _HIDE_CURSOR

    def _release(self, rest: str = "") -> str:
        """Returns the output that leaves the lines on the screen and shows the cursor after them."""
        self._is_cursor_hidden = False
        return self._draw("\n") + _SHOW_CURSOR + rest

    def _is_in_background(self) -> bool:
        """Checks whether the process is in the background of its terminal."""
        try:
            return os.tcgetpgrp(self._screen.fileno()) != os.getpgrp()
        except (OSError, ValueError, AttributeError):
            return False

    def _adapt_urgent(self, text: str, exiting: bool) -> str:
        """Returns the text that a signal handler writes to standard error, in a form that appears above the lines."""
        last = _SHOW_CURSOR if exiting else ""
        if any(name == "stderr" for name, _ in self._streams):
            return f"{_CLEAR}{text}{last}"
        with suppress(OSError):
            os.write(self._screen.fileno(), last.encode())
        return text


def _stop_process() -> None:
    """Suspends the process through the signal's default action."""
    signal.signal(_SUSPENDED, signal.SIG_DFL)
    signal.pthread_kill(threading.get_ident(), _SUSPENDED)


class _StreamAbove(io.TextIOBase):
    """A stream whose complete lines are written above the live ones.

    Attributes:
        rest: The text after the last newline.
    """

    def __init__(self, display: LiveTerminal, stream: TextIO) -> None:
        self._display, self._stream = display, stream
        self.rest = ""

    def write(self, text: str) -> int:
        lines, mark, self.rest = (self.rest + text).rpartition("\n")
        if mark:
            self._display.write_above(lines + mark)
        return len(text)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


class LiveNotebook:
    """Shows lines in one output of the running cell. Each call replaces the previous lines.

    While the lines are shown, per-iteration log lines are written only to the log file. When the cell ends, even
    with an error or interrupt, the last lines stay visible and log lines are printed again.

    Args:
        shell: The IPython shell of the kernel.
        on_cell_end: Called when the cell ends. It must call `close`.
    """

    width = 100

    def __init__(self, shell: Any, on_cell_end: Callable[[], None]) -> None:
        self._shell, self._on_cell_end = shell, on_cell_end
        # Imported here, because IPython is installed only if there is a shell.
        self._handle: Any = importlib.import_module("IPython.display").DisplayHandle()
        self._console = Console(file=io.StringIO(), force_jupyter=False, highlight=False)
        self._lines: Sequence[Text] = ()
        self._shown_at = -math.inf
        self._is_displayed = False

    def open(self) -> None:
        """Registers the callback for the end of the cell."""
        self._shell.events.register("post_execute", self._on_cell_end)

    def close(self) -> None:
        """Shows the last lines, and prints log lines again."""
        with suppress(ValueError):  # the callback was already removed
            self._shell.events.unregister("post_execute", self._on_cell_end)
        try:
            self._send()
        finally:
            show_iterations(True)

    def show(self, lines: Sequence[Text]) -> None:
        """Replaces the lines. An update that follows too soon is deferred to the next call or to `close`."""
        self._lines = lines
        if time.monotonic() - self._shown_at >= _SECONDS_BETWEEN:
            self._send()

    def _send(self) -> None:
        self._shown_at = time.monotonic()
        rows = []
        for line in self._lines:
            spans = ""
            for text, style, _ in line.render(self._console):
                css = []
                if style is not None:
                    name = "" if style.color is None or os.environ.get("NO_COLOR") else style.color.name
                    css += [f"color:{_COLORS[name]}"] if name in _COLORS else []
                    css += ["font-weight:bold"] if style.bold else []
                    css += ["opacity:.5"] if style.dim else []
                escaped = html.escape(text)
                spans += f'<span style="{";".join(css)}">{escaped}</span>' if css and text else escaped
            rows.append(spans)
        bundle = {
            "text/html": f'<pre style="{_PAGE_STYLE}">' + "\n".join(rows) + "</pre>",
            "text/plain": "\n".join(line.plain.rstrip() for line in self._lines),
        }
        with suppress(Exception):  # training continues even if the front end cannot show anything
            if self._is_displayed:
                self._handle.update(bundle, raw=True)
            else:
                self._handle.display(bundle, raw=True)
                self._is_displayed = True
                show_iterations(False)


def running_shell() -> Any:
    """Returns the shell of the notebook that runs this cell.

    Returns None in a script, in a terminal, and in a thread, where the end of a cell is not reported.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    is_notebook = getattr(shell, "kernel", None) is not None
    return shell if is_notebook and threading.current_thread() is threading.main_thread() else None
