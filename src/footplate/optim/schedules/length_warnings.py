"""Schedules that end elsewhere than the training does."""

import logging
from collections.abc import Sequence

from footplate.optim.schedules.curves import ENDLESS, MultiStep
from footplate.optim.schedules.param_schedule import ParamSchedule

_logger = logging.getLogger("footplate.optim")


def warn_of_lengths(
    schedules: Sequence[ParamSchedule],
    *,
    ends: Sequence[str] = (),
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
) -> None:
    """Names schedules that go past the end of training or stop short of it, with both numbers and the way out.

    One position past the end is silent: that is how a curve is told not to arrive within the run. A last schedule that
    ends on the base value, as a warm-up does, stops short of nothing.

    Args:
        schedules: The schedules of one optimizer.
        ends: For each the key of the config that says where it ends, "" where none does.
        epoch_length: The iterations of an epoch, where epochs have a length.
        max_epochs: The epochs of the run.
        max_iters: Its iterations.
    """
    for schedule, key in zip(schedules, ends or [""] * len(schedules), strict=True):
        total = max_epochs if schedule.by_epoch else max_iters
        if total is None or schedule.takes_metrics or (schedule.by_epoch and epoch_length is None):
            continue
        advice = f"; its end: --set {key}={total}" if key else ""
        _warn_past(schedule, total, advice)
        if schedule is _last(schedules, schedule.param_name, epoch_length):
            _warn_short(schedule, total, advice)


def _warn_past(schedule: ParamSchedule, total: int, advice: str) -> None:
    words = _words(schedule)
    marks = schedule.family.milestones if isinstance(schedule.family, MultiStep) else ()
    beyond = [mark for mark in marks if mark + schedule.begin >= total]
    if schedule.begin >= total:
        _logger.warning("%s begins at %d, past the end of training at %d", words, schedule.begin, total)
    elif total + 1 < schedule.end < ENDLESS:
        _logger.warning("%s ends at %d, past the end of training at %d%s", words, schedule.end, total, advice)
    elif beyond:
        _logger.warning("%s has a milestone at %d, past the end of training at %d", words, beyond[0], total)


def _warn_short(schedule: ParamSchedule, total: int, advice: str) -> None:
    if schedule.end < total and not schedule.family.settles():
        words = _words(schedule)
        _logger.warning("%s ends at %d, short of the end of training at %d%s", words, schedule.end, total, advice)


def _last(schedules: Sequence[ParamSchedule], field: str, epoch_length: int | None) -> ParamSchedule:
    """Returns the schedule of `field` that ends last."""
    return max(
        (each for each in schedules if each.param_name == field),
        key=lambda each: each.end * (epoch_length or 1) if each.by_epoch else each.end,
    )


def _words(schedule: ParamSchedule) -> str:
    return f"{type(schedule).__name__} (by {'epoch' if schedule.by_epoch else 'iteration'})"
