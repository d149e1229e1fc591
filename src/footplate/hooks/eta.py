"""Estimates the time that a run still takes."""

import bisect
import math
import time
from collections.abc import Sequence

_MOST_TIMES = 3  # multiple of a usual iteration's time beyond which an iteration contains something else
_WINDOW = 15.0  # seconds
_RARE = 1.0  # seconds between two occurrences below which an event counts as part of the iterations
_LEAST_WEIGHT = 0.25  # of the latest occurrence of an event


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
