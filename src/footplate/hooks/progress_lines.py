"""Formats the progress of a run as lines for a terminal of any width."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_MAX_BAR = 28
_MAX_VALUES = 96  # per sparkline; with more, neighbors are averaged
_GAP = "  "


class Sparkline:
    """A curve of block characters that stores a limited number of values."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._per_value, self._pending = 1, deque[float]()

    @property
    def latest(self) -> float | None:
        """The newest value."""
        return self._pending[-1] if self._pending else self._values[-1] if self._values else None

    def add(self, value: float) -> None:
        """Adds a value. If there are too many, pairs of neighbors are averaged."""
        self._pending.append(value)
        if len(self._pending) < self._per_value:
            return
        self._values.append(sum(self._pending) / len(self._pending))
        self._pending.clear()
        if len(self._values) > _MAX_VALUES:
            self._values = [(a + b) / 2 for a, b in zip(self._values[::2], self._values[1::2], strict=False)]
            self._per_value *= 2

    def draw(self, width: int) -> str:
        """Draws the curve with at most `width` characters, scaled to the range of its values."""
        values = [*self._values, *([self._pending[-1]] if self._pending else [])]
        finite = [value for value in values if math.isfinite(value)]
        if len(finite) < 2 or width < 2:
            return ""
        step = max(1.0, len(finite) / width)
        shown = [finite[int(place * step)] for place in range(min(width, len(finite)))]
        low, high = min(shown), max(shown)
        scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(_BARS[round((value - low) * scale)] for value in shown)


class Progress(NamedTuple):
    """The values that the display shows.

    Attributes:
        done: The number of completed iterations.
        length: The number of iterations of the run.
        left: The seconds left, or None if unknown.
        pace: The seconds per iteration, or None if unknown.
        waiting: The fraction of the iteration time spent waiting for data. None if not measured; NaN before the first
            iteration.
        memory: The memory in use, in MiB.
        rate: The learning rate. None if the optimizer has none; NaN before the first iteration.
        losses: Maps the name of each loss to its curve.
        metrics: Maps each metric to its latest value, its best value, and the iteration of the best value.
        validation: The numbers of completed and of all batches in the current validation, or None if no validation is
            running.
    """

    done: int
    length: int
    left: float | None
    pace: float | None
    waiting: float | None
    memory: int
    rate: float | None
    losses: Mapping[str, Sparkline]
    metrics: Mapping[str, tuple[float, float, int]]
    validation: tuple[int, int | None] | None


def format_progress(progress: Progress, width: int) -> list[Text]:
    """Returns the lines of the display, each shortened to `width` columns."""
    train = [
        Text(f"{progress.done}/{progress.length}"),
        Text(f"left {format_seconds(progress.left)}", style="bold"),
    ]
    if progress.pace:
        pace = progress.pace
        train.append(Text(f"{pace:.3g} s/it" if pace >= 1 else f"{1 / pace:.3g} it/s"))
    if progress.waiting is not None:
        style = "yellow" if progress.waiting > 0.2 else ""
        train.append(Text(f"{_number(progress.waiting, '.0%')} waiting for data", style=style))
    train.append(Text(f"{progress.memory} MiB"))
    bar = progress_bar(progress.done, progress.length, min(_MAX_BAR, max(6, width // 4)))
    lines = [_join_fitting(Text.assemble("train ", bar, " "), train, width)]
    losses = []
    for place, (name, curve) in enumerate(progress.losses.items()):
        if curve.latest is not None:
            drawn = curve.draw(16 if width < 100 or place else 24)
            losses.append(Text.assemble(f"{name} {curve.latest:.4g} ", (drawn, "cyan")))
    rate = [] if progress.rate is None else [Text(f"lr {_number(progress.rate, '.2e')}")]
    lines.append(_join_fitting("now   ", [*losses[:1], *rate, *losses[1:]], width))
    if progress.metrics:
        parts = []
        for name, (latest, best, at) in progress.metrics.items():
            now = "" if latest == best else f", now {latest:.4g}"
            parts.append(Text.assemble(f"{name} ", (f"{best:.4g}", "green"), f" at {at}{now}"))
        lines.append(_join_fitting("best  ", parts, width))
    if progress.validation is not None:
        done, length = progress.validation
        bar = progress_bar(done, length or done, min(_MAX_BAR, width // 4))
        lines.append(Text.assemble("valid ", bar, f" {done}/{length}" if length else f" {done}"))
    return lines


def format_seconds(seconds: float | None) -> str:
    """Formats seconds as 03:07, 1:02:03 or 2 days 01:02."""
    if seconds is None:
        return "--:--"
    whole = round(seconds)
    minutes, hours, days = whole // 60 % 60, whole // 3600 % 24, whole // 86400
    if days:
        return f"{days} days {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"


def progress_bar(done: int, length: int, width: int) -> Text:
    """Returns a progress bar of `width` characters."""
    filled = width if not length else min(width, width * done // length)
    return Text.assemble(("━" * filled, "green"), ("─" * (width - filled), "dim"))


def _number(value: float, form: str) -> str:
    return "--" if math.isnan(value) else f"{value:{form}}"


def _join_fitting(head: str | Text, parts: Iterable[Text], width: int) -> Text:
    """Joins parts in order as long as they fit. The first one is always included."""
    line = Text.assemble(head)
    for place, part in enumerate(parts):
        if place and line.cell_len + len(_GAP) + part.cell_len >= width:
            break
        line.append(_GAP if place else "")
        line.append_text(part)
    return line
