"""Determines after which epochs or iterations a training run validates."""

import bisect
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from footplate.checks import check_count
from footplate.errors import ArgumentError


def validation_points(
    total: int, val_begin: int = 1, val_interval: int = 1, dynamic_intervals: Sequence[tuple[int, int]] | None = None
) -> list[int]:
    """Returns the epochs or iterations, out of `total`, after which a training loop validates.

    For the other arguments, see `BaseTrainLoop`.

    >>> validation_points(5, val_interval=2)
    [2, 4, 5]
    """
    milestones, intervals = checked_intervals(val_interval, dynamic_intervals)
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


def count_validations(done: int, total: int, begin: int, interval: int) -> int:
    """Returns the number of validation points after epoch or iteration `done`, if the interval does not change."""
    done = max(done, begin - 1)
    return math.ceil(total / interval) - done // interval if done < total else 0


def checked_intervals(val_interval: int, dynamic_intervals: Any) -> tuple[list[int], list[int]]:
    """Checks both arguments. Returns the milestones, starting with 0, and the interval that applies from each of them.

    Raises:
        ArgumentError: A milestone or interval is not a positive integer, or the milestones are not in ascending order.
    """
    try:
        pairs = [(milestone, interval) for milestone, interval in dynamic_intervals or ()]
        is_sorted = pairs == sorted(pairs, key=lambda pair: pair[0])
    except (TypeError, ValueError):
        is_sorted = False
    if not is_sorted:
        raise ArgumentError(
            "'dynamic_intervals' must be pairs of a milestone and an interval, in ascending order",
            key="dynamic_intervals",
            found=dynamic_intervals,
        )
    check = partial(check_count, "each number in dynamic_intervals", key="dynamic_intervals")
    milestones = [0, *(check(milestone) for milestone, _ in pairs)]
    return milestones, [check_count("val_interval", val_interval), *(check(interval) for _, interval in pairs)]
