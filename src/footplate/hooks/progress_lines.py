"""Formats the readings of the live display as lines for a terminal of any width."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_LONGEST_BAR = 28
_MOST_VALUES = 96  # per sparkline; with more, neighbors are averaged
_GAP = "  "


class Sparkline:
    """A curve drawn with a few characters. It holds a limited number of values."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._each, self._pending = 1, deque[float]()

    @property
    def latest(self) -> float | None:
        """The newest value."""
        return self._pending[-1] if self._pending else self._values[-1] if self._values else None

    def add(self, value: float) -> None:
        """Adds a value. If there are too many, pairs of neighbors are averaged."""
        self._pending.append(value)
        if len(self._pending) < self._each:
            return
        self._values.append(sum(self._pending) / len(self._pending))
        self._pending.clear()
        if len(self._values) > _MOST_VALUES:
            self._values = [(a + b) / 2 for a, b in zip(self._values[::2], self._values[1::2], strict=False)]
            self._each *= 2

    def draw(self, width: int) -> str:
        """Returns at most `width` characters, from the lowest bar for the minimum to the highest for the maximum."""
        values = [*self._values, *([self._pending[-1]] if self._pending else [])]
        finite = [value for value in values if value - value == 0]
        if len(finite) < 2 or width < 2:
            return ""
        step = max(1.0, len(finite) / width)
        shown = [finite[int(place * step)] for place in range(min(width, len(finite)))]
        low, high = min(shown), max(shown)
        scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(_BARS[round((value - low) * scale)] for value in shown)


class Readings(NamedTuple):
    """The values that the display shows.

    Attributes:
        done: The number of completed iterations.
        length: The number of iterations of the run.
        left: The seconds left, or None if unknown.
        pace: The seconds per iteration, or None if unknown.
        waiting: The share of an iteration spent waiting for data. None if it is not measured, NaN before the first
            iteration.
        memory: The memory in use, in MiB.
        rate: The learning rate. None if there is none, NaN before the first iteration.
        losses: The curves of the losses, by name.
        metrics: By name, the latest value, the best value, and the iteration of the best value.
        validating: The completed batches and all batches of the current validation, or None.
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
    validating: tuple[int, int | None] | None


def lines_of(readings: Readings, width: int) -> list[Text]:
    """Returns the lines of the display, each shortened to the width.

    Args:
        readings: The values to show.
        width: The number of columns of the terminal.
    """
    lines = [_progress_line(readings, width), _loss_line(readings, width)]
    if readings.metrics:
        lines.append(_fitted(_metric_parts(readings), width, head="best  "))
    if readings.validating is not None:
        done, length = readings.validating
        words = f"{done}/{length}" if length else str(done)
        lines.append(Text.assemble("valid ", bar(done, length or done, min(_LONGEST_BAR, width // 4)), f" {words}"))
    return lines


def clock(seconds: float | None) -> str:
    """Formats seconds as 03:07, 1:02:03 or 2 days 01:02."""
    if seconds is None:
        return "--:--"
    whole = round(seconds)
    minutes, hours, days = whole // 60 % 60, whole // 3600 % 24, whole // 86400
    if days:
        return f"{days} days {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"


def bar(done: int, length: int, width: int) -> Text:
    """Returns a progress bar of `width` characters."""
    filled = width if not length else min(width, width * done // length)
    return Text.assemble(("━" * filled, "green"), ("─" * (width - filled), "dim"))


def _progress_line(readings: Readings, width: int) -> Text:
    done, length = readings.done, readings.length
    parts = [Text(f"{done}/{length}"), Text(f"left {clock(readings.left)}", style="bold")]
    if readings.pace:
        pace = f"{readings.pace:.3g} s/it" if readings.pace >= 1 else f"{1 / readings.pace:.3g} it/s"
        parts.append(Text(pace))
    parts.append(Text(f"{readings.memory} MiB"))
    if readings.waiting is not None:
        words = f"{_known(readings.waiting, '.0%')} waiting for data"
        share = Text(words, style="yellow" if readings.waiting > 0.2 else "")
        parts.insert(len(parts) - 1, share)
    drawn = bar(done, length, min(_LONGEST_BAR, max(6, width // 4)))
    return _fitted(parts, width, head=Text.assemble("train ", drawn, " "))


def _loss_line(readings: Readings, width: int) -> Text:
    parts = []
    for place, (name, curve) in enumerate(readings.losses.items()):
        latest = curve.latest
        if latest is not None:
            drawn = curve.draw(16 if width < 100 or place else 24)
            parts.append(Text.assemble(f"{name} {latest:.4g} ", (drawn, "cyan")))
    rate = [] if readings.rate is None else [Text(f"lr {_known(readings.rate, '.2e')}")]
    return _fitted([*parts[:1], *rate, *parts[1:]], width, head="      ")


def _known(value: float, form: str) -> str:
    return "--" if math.isnan(value) else f"{value:{form}}"


def _metric_parts(readings: Readings) -> Iterable[Text]:
    for name, (latest, best, at) in readings.metrics.items():
        now = "" if latest == best else f", now {latest:.4g}"
        yield Text.assemble(f"{name} ", (f"{best:.4g}", "green"), f" at {at}{now}")


def _fitted(parts: Iterable[Text], width: int, *, head: str | Text) -> Text:
    """Joins parts in order as long as they fit. The first one is always included."""
    line = Text.assemble(head)
    for place, part in enumerate(parts):
        if place and line.cell_len + len(_GAP) + part.cell_len >= width:
            break
        line.append(_GAP if place else "")
        line.append_text(part)
    return line
