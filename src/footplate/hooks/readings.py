"""Formats the readings of the live display as lines for a terminal of any width."""

import bisect
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_LONGEST_BAR = 28
_MOST_VALUES = 96  # per sparkline; with more, neighbors are averaged
_GAP = "  "
_MOST_TIMES = 3  # multiple of a usual iteration's time beyond which an iteration contains something else
_WINDOW = 15.0  # seconds
_RARE = 1.0  # seconds between two occurrences below which an event counts as part of the iterations
_LEAST_WEIGHT = 0.25  # of the latest occurrence of an event


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


class Recurring:
    """An event after known iterations, such as a save, and its average duration, weighted toward the latest ones.

    Args:
        points: The iterations after which it happens, in order.
        behind: Whether it happens after an iteration is over rather than within it.
    """

    def __init__(self, points: Sequence[int], *, behind: bool = False) -> None:
        self._points, self._behind = points, behind
        self._passed = self._times = 0
        self.seconds = 0.0

    @property
    def left(self) -> int:
        """How many occurrences are left."""
        return len(self._points) - self._passed

    @property
    def is_known(self) -> bool:
        """Whether its duration was measured."""
        return self._times > 0

    def pass_to(self, done: int, *, between: bool) -> int:
        """Returns the number of new occurrences up to an iteration, or, if `between`, up to the start of the next."""
        before, last = self._passed, done - (self._behind and not between)
        self._passed = max(before, bisect.bisect_right(self._points, last))
        return self._passed - before

    def is_rare(self, pace: float) -> bool:
        """Checks whether it is rare enough to measure it separately from iterations of `pace` seconds."""
        count = len(self._points)
        return count < 2 or (self._points[-1] - self._points[0]) / (count - 1) * pace >= _RARE

    def learn(self, seconds: float) -> None:
        """Adds the duration of one occurrence."""
        self._times += 1
        self.seconds += (seconds - self.seconds) * max(1 / self._times, _LEAST_WEIGHT)


class Clock:
    """Estimates the time left from the durations of iterations, recurring events and validations.

    Known events, such as saves and epoch starts, count as often as they are still to come. An iteration that takes much
    longer than usual without a known event must contain an unknown one. Once that has happened again, its extra time is
    spread evenly over all iterations. The first measured span includes one-time work, so it is used only until the next
    one is measured.

    Args:
        length: The number of iterations of the run.
        validations: The iterations after which it validates.
        recurring: Other known events.
        done: The number of completed iterations.
    """

    def __init__(
        self, length: int, validations: Sequence[int], recurring: Sequence[Recurring] = (), *, done: int = 0
    ) -> None:
        self.length, self._validations, self._recurring, self._done = length, validations, recurring, done
        self._since: float | None = None
        self._ticks = self._iterations = 0
        self._seconds = self._weight = 0.0
        self._first_stay: int | None = None
        self._stayed = 0.0
        self._validated = [0, 0.0]
        self._validating: tuple[float, float] | None = None
        self._paused_at = -1
        self._come(between=True)

    def tick(self, iterations: int = 1, *, between: bool = False) -> None:
        """Records completed iterations, and events after them if `between`. Time since `pause` does not count."""
        now = time.monotonic()
        self._done += iterations
        came = self._come(between=between)
        if self._since is not None and (iterations or self._ticks):
            self._note(now - self._since, iterations, came)
        self._since = now

    def pause(self, done: int) -> None:
        """Records that a validation begins after `done` iterations."""
        self._since, self._validating, self._paused_at = None, (time.monotonic(), 0.0), done

    def validating(self, share: float) -> None:
        """Records which share of the validation is done."""
        if self._validating is not None:
            self._validating = (self._validating[0], share)

    def validated(self) -> None:
        """Records the end of the validation. Time counts again, including the start of workers."""
        if self._validating is not None:
            self._validated[0] += 1
            self._validated[1] += time.monotonic() - self._validating[0]
        self._validating, self._since = None, time.monotonic()

    def leave_out(self, seconds: float) -> None:
        """Excludes a time span that has just passed from the measurements: the process was suspended."""
        if self._since is not None:
            self._since += seconds
        if self._validating is not None:
            self._validating = (self._validating[0] + seconds, self._validating[1])

    @property
    def paused(self) -> bool:
        """Whether the clock is paused."""
        return self._since is None

    @property
    def seconds_per_iteration(self) -> float | None:
        """The seconds that a usual iteration takes, or None before the first measurement."""
        return self._seconds / self._weight if self._weight else None

    def left(self, done: int) -> float | None:
        """Returns the seconds left, or None before the first measurement."""
        if self.seconds_per_iteration is None:
            return None
        since = self._iterations - (self._first_stay or 0)
        stays = self._stayed / since if since else 0.0
        coming = self._recurring_left(self.seconds_per_iteration) + self._validations_left(done)
        return (self.length - done) * (self.seconds_per_iteration + stays) + coming

    def _come(self, *, between: bool) -> list[tuple[Recurring, int]]:
        """Returns the events since the last call, and how often each happened."""
        counted = [(each, each.pass_to(self._done, between=between)) for each in self._recurring]
        return [(each, times) for each, times in counted if times]

    def _note(self, span: float, iterations: int, came: list[tuple[Recurring, int]]) -> None:
        pace = self.seconds_per_iteration or 0.0
        rare = [(each, times) for each, times in came if each.is_rare(pace)]
        if self._ticks == 1 and iterations:
            self._seconds = self._weight = 0.0
        elif self._ticks and rare:
            _share_out(span - iterations * pace, rare)
            span = iterations * pace
        elif self._ticks:
            usual = min(span, _MOST_TIMES * iterations * pace)
            self._stay(span - usual)
            span = usual
        # Averages over about the last 200 iterations, or the last 15 seconds if that is more.
        keep = max(0.995**iterations, math.exp(-span / _WINDOW))
        self._seconds, self._weight = self._seconds * keep + span, self._weight * keep + iterations
        self._ticks += bool(iterations)
        self._iterations += iterations

    def _stay(self, seconds: float) -> None:
        if seconds and self._first_stay is None:
            self._first_stay = self._iterations
        elif seconds:
            self._stayed += seconds

    def _recurring_left(self, pace: float) -> float:
        """Returns the seconds left for known events."""
        return sum(each.left * max(each.seconds, 0.0) for each in self._recurring if each.is_rare(pace))

    def _validations_left(self, done: int) -> float:
        """Returns the seconds left for the current and later validations, estimated from those measured so far."""
        count, total = self._validated
        began, share = self._validating or (0.0, 0.0)
        gone = time.monotonic() - began if self._validating else 0.0
        each = total / count if count else gone / share if share else 0.0
        coming = sum(1 for at in self._validations if at > done or done == at != self._paused_at)
        return coming * each + (max(each - gone, 0.0) if self._validating else 0.0)


def _share_out(seconds: float, came: list[tuple[Recurring, int]]) -> None:
    """Splits elapsed time among simultaneous events: new ones share the rest, known ones get their usual share."""
    new = [each for each, _ in came if not each.is_known]
    known = sum(each.seconds * times for each, times in came if each.is_known)
    rest = seconds - known
    for each, times in came:
        if new and not each.is_known:
            each.learn(max(rest, 0.0) / len(new) / times)
        elif not new:
            share = each.seconds * times / known if known > 0 else 1 / len(came)
            each.learn(each.seconds + rest * share / times)


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
