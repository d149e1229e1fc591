"""Shows lines in a single output of a notebook cell and updates them in place."""

import html
import importlib
import io
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.text import Text

from footplate.records import show_iterations

_SECONDS_BETWEEN = 0.2
# Each color has a contrast of at least 4:1 with the page, in a light and in a dark theme.
_COLOURS = {"green": "#238636", "cyan": "#0e8399", "yellow": "#9a6f00"}
_PAGE = (
    "margin:0;padding:0 var(--jp-code-padding,0);white-space:pre;overflow-x:auto;background:none;color:inherit;"
    # Notebooks show text that is not preformatted in a proportional font, in which bars are uneven.
    "font:var(--jp-code-font-size,13px)/1.3 var(--jp-code-font-family,var(--vscode-editor-font-family,monospace))"
)


class LiveNotebook:
    """Shows lines in an output of the running cell, which each later call replaces.

    While the lines are shown, log lines about single iterations go to the log file only. When the cell ends, also by an
    error or interrupt, the last lines stay and logging is reset.

    Args:
        shell: The IPython shell of the kernel.
        leave: Called when the cell ends. It must call `close`.
    """

    width = 100

    def __init__(self, shell: Any, *, leave: Callable[[], None]) -> None:
        self._shell, self._leave = shell, leave
        # Imported with the shell. A plain script does not get here.
        self._handle: Any = importlib.import_module("IPython.display").DisplayHandle()
        self._console = Console(file=io.StringIO(), force_jupyter=False, highlight=False)
        self._lines: Sequence[Text] = ()
        self._shown_at = -math.inf
        self._is_there = False

    def open(self) -> None:
        """Registers the callback for the end of the cell."""
        self._shell.events.register("post_execute", self._leave)

    def close(self) -> None:
        """Shows the last lines and resets logging."""
        with suppress(ValueError):  # the callback was already removed
            self._shell.events.unregister("post_execute", self._leave)
        try:
            self._send()
        finally:
            show_iterations(True)

    def show(self, lines: Sequence[Text]) -> None:
        """Replaces the lines. Right after the last update, this is deferred to the next call or to `close`."""
        self._lines = lines
        if time.monotonic() - self._shown_at >= _SECONDS_BETWEEN:
            self._send()

    def _send(self) -> None:
        self._shown_at = time.monotonic()
        plain = "\n".join(line.plain.rstrip() for line in self._lines)
        bundle = {"text/html": self._as_html(), "text/plain": plain}
        with suppress(Exception):  # training continues even if the front end cannot show anything
            if self._is_there:
                self._handle.update(bundle, raw=True)
            else:
                self._handle.display(bundle, raw=True)
                self._is_there = True
                show_iterations(False)

    def _as_html(self) -> str:
        rows = ["".join(self._spans(line)) for line in self._lines]
        return f'<pre style="{_PAGE}">' + "\n".join(rows) + "</pre>"

    def _spans(self, line: Text) -> list[str]:
        parts = [(html.escape(text), _css(style)) for text, style, _ in line.render(self._console) if text]
        return [f'<span style="{css}">{text}</span>' if css else text for text, css in parts]


def running_shell() -> Any:
    """Returns the shell of the notebook that runs this cell.

    Returns None in a script, in a terminal, and in a thread, where the end of a cell is not reported.
    """
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    is_notebook = getattr(shell, "kernel", None) is not None
    return shell if is_notebook and threading.current_thread() is threading.main_thread() else None


def _css(style: Style | None) -> str:
    if style is None:
        return ""
    colour = "" if style.color is None or os.environ.get("NO_COLOR") else _COLOURS.get(style.color.name, "")
    marks = [f"color:{colour}"] if colour else []
    marks += ["font-weight:bold"] if style.bold else []
    marks += ["opacity:.5"] if style.dim else []
    return ";".join(marks)
