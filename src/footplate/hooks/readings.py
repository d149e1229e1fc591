"""What the live display shows, and the lines it makes of it for a terminal of any width."""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_LONGEST_BAR = 28
_MOST_VALUES = 96  # of one sparkline; beyond, neighbours are averaged
_GAP = "  "


class Sparkline:
    """A curve of a run in a few letters; it never holds more than so many values."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._each, self._pending = 1, deque[float]()

    @property
    def latest(self) -> float | None:
        """The newest value."""
        return self._pending[-1] if self._pending else self._values[-1] if self._values else None

    def add(self, value: float) -> None:
        """Takes a value; where there are too many, neighbours become one."""
        self._pending.append(value)
        if len(self._pending) < self._each:
            return
        self._values.append(sum(self._pending) / len(self._pending))
        self._pending.clear()
        if len(self._values) > _MOST_VALUES:
            self._values = [(a + b) / 2 for a, b in zip(self._values[::2], self._values[1::2], strict=False)]
            self._each *= 2

    def draw(self, width: int) -> str:
        """Returns at most `width` letters, from the lowest bar for the least value to the highest for the greatest."""
        values = [*self._values, *([self._pending[-1]] if self._pending else [])]
        finite = [value for value in values if value - value == 0]
        if len(finite) < 2 or width < 2:
            return ""
        step = max(1.0, len(finite) / width)
        shown = [finite[int(place * step)] for place in range(min(width, len(finite)))]
        low, high = min(shown), max(shown)
        scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(_BARS[round((value - low) * scale)] for value in shown)


class Clock:
    """Tells how much time is left: what an iteration takes of late, and what the validations to come will take.

    Args:
        length: The iterations of the run.
        validations: The iterations after which it validates.
    """

    def __init__(self, length: int, validations: Sequence[int]) -> None:
        self.length, self._validations = length, validations
        self._since: float | None = None
        self._seconds = self._weight = 0.0
        self._validated = [0, 0.0]

    def tick(self, iterations: int = 1) -> None:
        """Notes that so many iterations are done; time since `pause` does not count."""
        now = time.monotonic()
        if self._since is not None:
            # About the last two hundred iterations count.
            keep = 0.995**iterations
            self._seconds = self._seconds * keep + (now - self._since)
            self._weight = self._weight * keep + iterations
        self._since = now

    def pause(self) -> None:
        """Notes that something else than training begins."""
        self._since = None

    def validated(self, seconds: float) -> None:
        """Notes what a validation took."""
        self._validated[0] += 1
        self._validated[1] += seconds

    @property
    def paused(self) -> bool:
        """Whether no time counts now."""
        return self._since is None

    @property
    def seconds_per_iteration(self) -> float | None:
        """What an iteration takes, None before the first one was measured."""
        return self._seconds / self._weight if self._weight else None

    def left(self, done: int) -> float | None:
        """Returns the seconds to the end, None where nothing was measured."""
        if self.seconds_per_iteration is None:
            return None
        count, total = self._validated
        coming = sum(1 for at in self._validations if at > done) * (total / count if count else 0.0)
        return (self.length - done) * self.seconds_per_iteration + coming


class Readings(NamedTuple):
    """What the display shows.

    Attributes:
        done: Iterations that are done.
        length: Iterations of the run.
        left: Seconds to the end, None where they are not known.
        pace: Seconds of an iteration, None likewise.
        waiting: The share of an iteration that waits for data, None where it is not known.
        memory: MiB in use.
        rate: The learning rate.
        losses: Curves of the losses, by name.
        metrics: The latest metrics with the best so far and the iteration it was reached at.
        validating: Batches done and in all of a validation at work, or None.
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
    """Returns the lines of the display, as much of each as fits.

    Args:
        readings: What to show.
        width: The columns of the terminal.
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
    """Writes seconds as 03:07, 1:02:03 or 2 days 01:02."""
    if seconds is None:
        return "--:--"
    whole = round(seconds)
    minutes, hours, days = whole // 60 % 60, whole // 3600 % 24, whole // 86400
    if days:
        return f"{days} days {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"


def bar(done: int, length: int, width: int) -> Text:
    """Returns a line of `width` letters, of which the share that is done is drawn strongly."""
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
        share = Text(f"{readings.waiting:.0%} waiting for data", style="yellow" if readings.waiting > 0.2 else "")
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
    rate = [] if readings.rate is None else [Text(f"lr {readings.rate:.2e}")]
    return _fitted([*parts[:1], *rate, *parts[1:]], width, head="      ")


def _metric_parts(readings: Readings) -> Iterable[Text]:
    for name, (latest, best, at) in readings.metrics.items():
        now = "" if latest == best else f", now {latest:.4g}"
        yield Text.assemble(f"{name} ", (f"{best:.4g}", "green"), f" at {at}{now}")


def _fitted(parts: Iterable[Text], width: int, *, head: str | Text) -> Text:
    """Joins parts in their order as long as they fit; the first one is there in any case."""
    line = Text.assemble(head)
    for place, part in enumerate(parts):
        if place and line.cell_len + len(_GAP) + part.cell_len >= width:
            break
        line.append(_GAP if place else "")
        line.append_text(part)
    return line
