"""Displays a few lines at the bottom of a terminal or in a notebook cell, and updates them in place."""

import importlib
import math
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from footplate.messages import one_line
from footplate.records import logger

_BLOCKS = "▁▂▃▄▅▆▇█"


class LiveTerminal:
    """Draws lines at the bottom of the terminal. Until the display is closed, all other output appears above it."""

    def __init__(self) -> None:
        self._live = Live(console=Console(file=sys.stdout), auto_refresh=False)
        self._live.start()
        self._live.console.show_cursor(True)  # a killed process cannot restore a hidden cursor

    def show(self, lines: Sequence[RenderableType]) -> None:
        """Replaces the displayed lines."""
        table = _stack(lines)
        table.width = self._live.console.width - 2  # leaves room for ^C, which the terminal shows after the last line
        self._live.update(table, refresh=True)
        logger.live_rows = len(lines)

    def close(self) -> None:
        """Closes the display. The last lines stay on the screen."""
        logger.live_rows = 0
        self._live.stop()


class LiveNotebook:
    """Shows lines in a single output of the running notebook cell."""

    def __init__(self) -> None:
        # Imported here, because IPython is installed only in notebook environments.
        self._handle: Any = importlib.import_module("IPython.display").DisplayHandle()
        self._show = self._handle.display

    def show(self, lines: Sequence[RenderableType]) -> None:
        """Replaces the displayed lines."""
        with suppress(Exception):  # training must continue even if the front end cannot display anything
            self._show(_stack(lines))
            self._show = self._handle.update
            logger.live_rows = len(lines)

    def close(self) -> None:
        """Ends the updates. The output stays in the notebook."""
        logger.live_rows = 0


def bar_line(label: str, count: int, length: int | None, *parts: str) -> Table:
    """Returns a line with a label, a progress bar, the text `count/length` and further parts.

    Pass `length=None` if the length is unknown.
    """
    line = Table.grid(padding=(0, 1, 0, 0))
    width = min(28, Console().width // 4)
    bar = ProgressBar(length or max(count, 1), count, width, False, "bright_black", "green", "green")
    place = f"{count}/{length}" if length else str(count or "starting")
    line.add_row(label, bar, text_line(place, *parts, taken=len(label) + width + 4))
    return line


def text_line(*parts: str | Text, taken: int = 2) -> Text:
    """Joins parts into one line. Drops trailing parts that do not fit next to the `taken` columns in use."""
    line = Text("  ", no_wrap=True, overflow="ellipsis").join(Text.assemble(part) for part in parts)
    is_too_long = line.cell_len > Console().width - taken
    return text_line(*parts[:-1], taken=taken) if is_too_long and parts[1:] else line


def loss_text(name: str, values: Iterable[float]) -> Text:
    """Formats a loss: its latest value, followed by its curve in block characters.

    The top eighth of the values is clipped, so that outliers do not flatten the curve.
    """
    *_, latest = values
    finite = [value for value in values if math.isfinite(value)]
    ordered = sorted(finite) or [0.0]
    low = ordered[0]
    high = ordered[-1 - len(ordered) // 8]
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    curve = "".join(_BLOCKS[round((min(value, high) - low) * scale)] for value in finite) if len(finite) > 1 else ""
    return Text.assemble(f"{one_line(name)} {latest:.4g} ", (curve, "cyan"))


def metric_text(name: str, latest: float, best: float, iteration: int) -> Text:
    """Formats a metric: its best value, the iteration that reached it, and the latest value if it differs.

    The best value is green if it is also the latest. A worse latest value is yellow, and a non-finite one is red.
    """
    shown = Text.assemble(f"{one_line(name)} ", (f"{best:.4g}", "green" if latest == best else ""), f" at {iteration}")
    if latest != best:
        shown.append(f", now {latest:.4g}", "yellow" if math.isfinite(latest) else "red")
    return shown


def _stack(lines: Iterable[RenderableType]) -> Table:
    table = Table.grid()
    for line in lines:
        table.add_row(line)
    return table
