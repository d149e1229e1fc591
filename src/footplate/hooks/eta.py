"""Estimates the remaining time of a run."""

import bisect
import math
import time
from collections.abc import Sequence

_MAX_RATIO = 3  # an iteration that takes longer than this times the usual time contains something else
_WINDOW = 15.0  # seconds
_RARE = 1.0  # seconds; an event that occurs more often is measured as part of the iterations
_MIN_WEIGHT = 0.25  # of the latest occurrence of an event


class RecurringEvent:
    """An event that occurs after known iterations, such as a save, and its average duration.

    The average is weighted toward the latest occurrences.

    Args:
        points: The iterations after which the event occurs, in ascending order.
        after_iteration: Whether the event occurs after the end of an iteration rather than within it.
    """

    def __init__(self, points: Sequence[int], *, after_iteration: bool = False) -> None:
        self._points, self._after_iteration = points, after_iteration
        self._passed = self._measured = 0
        self.seconds = 0.0

    @property
    def left(self) -> int:
        """The number of remaining occurrences."""
        return len(self._points) - self._passed

    @property
    def is_known(self) -> bool:
        """Whether the duration of an occurrence has been measured."""
        return self._measured > 0

    def advance(self, done: int, *, between: bool) -> int:
        """Advances to an iteration and returns the number of new occurrences.

        If `between` is set, occurrences after the end of the iteration are included.
        """
        before, last = self._passed, done - (self._after_iteration and not between)
        self._passed = max(before, bisect.bisect_right(self._points, last))
        return self._passed - before

    def is_rare(self, pace: float) -> bool:
        """Checks whether the event is too rare to be included in the measured time of iterations of `pace` seconds."""
        count = len(self._points)
        return count < 2 or (self._points[-1] - self._points[0]) / (count - 1) * pace >= _RARE

    def add_duration(self, seconds: float) -> None:
        """Adds the duration of one occurrence."""
        self._measured += 1
        self.seconds += (seconds - self.seconds) * max(1 / self._measured, _MIN_WEIGHT)


class TimeEstimator:
    """Estimates the remaining time from the durations of iterations, recurring events and validations.

    The duration of known events, such as saves and epoch starts, is multiplied by the number of remaining occurrences.
    An iteration that takes much longer than usual without a known event must contain an unknown one. When unknown
    events recur, their extra time is spread evenly over all iterations. The first measured span includes one-time work,
    so it is used only until the next one is measured.

    Args:
        length: The number of iterations of the run.
        validations: The iterations after which the run validates.
        events: Other known events.
        done: The number of completed iterations.
    """

    def __init__(
        self, length: int, validations: Sequence[int], events: Sequence[RecurringEvent] = (), *, done: int = 0
    ) -> None:
        self._length, self._validations, self._events, self._done = length, validations, events, done
        self._since: float | None = None
        self._spans = self._iterations = 0  # measured so far
        self._seconds = self._weight = 0.0  # of iterations, both weighted toward the latest ones
        self._extra_from: int | None = None  # the iteration with the first unknown event
        self._extra = 0.0  # the seconds of the unknown events after it
        self._validated, self._validation_seconds = 0, 0.0
        self._validation: tuple[float, float] | None = None  # the start of the current one, and its completed share
        self._paused_at = -1
        self._new_events(between=True)

    def tick(self, iterations: int = 1, *, between: bool = False) -> None:
        """Records completed iterations and, if `between` is set, the events after them. Excludes validation time."""
        now = time.monotonic()
        before, self._since = self._since, now
        self._done += iterations
        events = self._new_events(between=between)
        if before is None or not (iterations or self._spans):
            return
        span, pace = now - before, self.seconds_per_iteration or 0.0
        rare = [(each, times) for each, times in events if each.is_rare(pace)]
        if self._spans == 1 and iterations:
            self._seconds = self._weight = 0.0
        elif self._spans and rare:
            # New events share the time that exceeds the usual durations of the others. If there are none, the usual
            # durations are scaled.
            seconds, new = span - iterations * pace, [each for each, _ in rare if not each.is_known]
            known = sum(each.seconds * times for each, times in rare if each.is_known)
            for each, times in rare:
                if new and not each.is_known:
                    each.add_duration(max(seconds - known, 0.0) / len(new) / times)
                elif not new:
                    each.add_duration(each.seconds * seconds / known if known > 0 else seconds / len(rare) / times)
            span = iterations * pace
        elif self._spans:
            usual = min(span, _MAX_RATIO * iterations * pace)
            if span > usual and self._extra_from is None:
                self._extra_from = self._iterations
            elif span > usual:
                self._extra += span - usual
            span = usual
        # Averages over about the last 200 iterations, or the last 15 seconds if that is more.
        keep = max(0.995**iterations, math.exp(-span / _WINDOW))
        self._seconds, self._weight = self._seconds * keep + span, self._weight * keep + iterations
        self._spans += bool(iterations)
        self._iterations += iterations

    def begin_validation(self, done: int) -> None:
        """Records that a validation begins after `done` iterations."""
        self._since, self._validation, self._paused_at = None, (time.monotonic(), 0.0), done

    def continue_validation(self, share: float) -> None:
        """Records the completed fraction of the validation."""
        if self._validation is not None:
            self._validation = (self._validation[0], share)

    def end_validation(self) -> None:
        """Records the end of the validation and resumes timing. The start of workers is included in the measurement."""
        if self._validation is not None:
            self._validated += 1
            self._validation_seconds += time.monotonic() - self._validation[0]
        self._validation, self._since = None, time.monotonic()

    def exclude(self, seconds: float) -> None:
        """Excludes `seconds` from the measurements, because the process was suspended for that time."""
        if self._since is not None:
            self._since += seconds
        if self._validation is not None:
            self._validation = (self._validation[0] + seconds, self._validation[1])

    @property
    def is_paused(self) -> bool:
        """Whether timing is paused, as it is before the first iteration and during validation."""
        return self._since is None

    @property
    def seconds_per_iteration(self) -> float | None:
        """The duration of a typical iteration in seconds, or None before the first measurement."""
        return self._seconds / self._weight if self._weight else None

    def seconds_left(self, done: int) -> float | None:
        """Returns the estimated seconds left after `done` iterations, or None before the first measurement."""
        pace = self.seconds_per_iteration
        if pace is None:
            return None
        measured = self._iterations - (self._extra_from or 0)
        extra = self._extra / measured if measured else 0.0
        events = sum(each.left * max(each.seconds, 0.0) for each in self._events if each.is_rare(pace))
        # A validation takes as long as earlier ones on average. The first is extrapolated from its completed share.
        began, share = self._validation or (0.0, 0.0)
        elapsed = time.monotonic() - began if self._validation else 0.0
        validation = elapsed / share if share else 0.0
        if self._validated:
            validation = self._validation_seconds / self._validated
        to_come = sum(1 for at in self._validations if at > done or done == at != self._paused_at)
        rest = max(validation - elapsed, 0.0) if self._validation else 0.0
        return (self._length - done) * (pace + extra) + events + to_come * validation + rest

    def _new_events(self, *, between: bool) -> list[tuple[RecurringEvent, int]]:
        """Returns the events that occurred since the last call, each with its number of occurrences."""
        counted = [(each, each.advance(self._done, between=between)) for each in self._events]
        return [(each, times) for each, times in counted if times]
