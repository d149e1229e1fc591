"""Determines after which epochs or iterations a training run validates."""

import bisect
from collections.abc import Sequence
from functools import partial
from typing import Any

from footplate.checks import check_count
from footplate.errors import ArgumentError


def validation_points(
    total: int, val_begin: int = 1, val_interval: int = 1, dynamic_intervals: Sequence[tuple[int, int]] | None = None
) -> list[int]:
    """Returns the epochs or iterations after which a training loop validates.

    Args:
        total: The total number of epochs or iterations.
        val_begin: The loop does not validate before this epoch or iteration. The interval is not counted from it.
        val_interval: The number of epochs or iterations between validation runs. Validation also follows the last one.
        dynamic_intervals: `[(milestone, interval), ...]`. An interval applies as soon as `milestone - 1` epochs or
            iterations are complete.

    >>> validation_points(5, val_interval=2)
    [2, 4, 5]
    """
    changes = [(0, check_count("val_interval", val_interval)), *checked_intervals(dynamic_intervals or ())]
    milestones, intervals = zip(*changes, strict=True)
    return [
        done
        for done in range(1, total + 1)
        if is_validation_point(done, total, val_begin, interval_at(done, milestones, intervals))
    ]


def interval_at(done: int, milestones: Sequence[int], intervals: Sequence[int]) -> int:
    """Returns the interval that applies after `done` epochs or iterations.

    The last milestone that is at most `done + 1` determines the interval. The first milestone is 0.
    """
    return intervals[bisect.bisect(milestones, done + 1) - 1]


def is_validation_point(done: int, total: int, begin: int, interval: int) -> bool:
    """Checks whether a run of `total` epochs or iterations validates after epoch or iteration `done`.

    Validation is due at each multiple of `interval` and at the end, but not before `begin`.
    """
    return done > 0 and done >= begin and (done % interval == 0 or done == total)


def checked_intervals(intervals: Any) -> list[tuple[int, int]]:
    """Checks `dynamic_intervals` and returns its (milestone, interval) pairs.

    Raises:
        ArgumentError: A milestone or interval is not a positive integer, or the milestones are not in ascending order.
    """
    try:
        pairs = [(milestone, interval) for milestone, interval in intervals]
        is_sorted = pairs == sorted(pairs, key=lambda pair: pair[0])
    except (TypeError, ValueError):
        is_sorted = False
    if not is_sorted:
        raise ArgumentError(
            "'dynamic_intervals' must be pairs of a milestone and an interval, in ascending order",
            key="dynamic_intervals",
            found=intervals,
        )
    check = partial(check_count, "each number in dynamic_intervals", key="dynamic_intervals")
    return [(check(milestone), check(interval)) for milestone, interval in pairs]
