"""Warns about schedules that do not end together with training."""

import logging
from collections.abc import Sequence

from footplate.optim.schedules.curves import ENDLESS, MultiStep
from footplate.optim.schedules.param_schedule import ParamSchedule

_logger = logging.getLogger("footplate.optim")


def warn_about_lengths(
    schedules: Sequence[ParamSchedule],
    *,
    end_keys: Sequence[str] = (),
    epoch_length: int | None = None,
    max_epochs: int | None = None,
    max_iters: int | None = None,
) -> None:
    """Warns about schedules that end, or have a milestone, after the end of training, or end before it.

    There is no warning about an end one position after that of training, which is a common way to not reach the final
    value. Nor is there one about a last schedule that ends at the base value, such as a warm-up.

    Args:
        schedules: The schedules of one optimizer.
        end_keys: The config key of the `end` of each schedule, "" if the config does not set it.
        epoch_length: The iterations of an epoch, None if unknown.
        max_epochs: The epochs of the run.
        max_iters: The iterations of the run.
    """
    for schedule, key in zip(schedules, end_keys or [""] * len(schedules), strict=True):
        total = max_epochs if schedule.by_epoch else max_iters
        if total is None or schedule.takes_metrics or (schedule.by_epoch and epoch_length is None):
            continue
        name = f"{type(schedule).__name__} (by {'epoch' if schedule.by_epoch else 'iteration'})"
        advice = f"; to end with training, use --set {key}={total}" if key else ""
        _warn_if_after(schedule, total, name, advice)
        is_last = schedule is _last_schedule(schedules, schedule.param_name, epoch_length)
        if is_last and schedule.end < total and not schedule.family.settles():
            _logger.warning("%s ends at %d, before the end of training at %d%s", name, schedule.end, total, advice)


def _warn_if_after(schedule: ParamSchedule, total: int, name: str, advice: str) -> None:
    milestones = schedule.family.milestones if isinstance(schedule.family, MultiStep) else ()
    unreached = [each for each in milestones if each + schedule.begin >= total]
    if schedule.begin >= total:
        _logger.warning("%s begins at %d, after the end of training at %d", name, schedule.begin, total)
    elif total + 1 < schedule.end < ENDLESS:
        _logger.warning("%s ends at %d, after the end of training at %d%s", name, schedule.end, total, advice)
    elif unreached:
        _logger.warning("%s has a milestone at %d, after the end of training at %d", name, unreached[0], total)


def _last_schedule(schedules: Sequence[ParamSchedule], field: str, epoch_length: int | None) -> ParamSchedule:
    """Returns the schedule of `field` with the latest end."""
    return max(
        (each for each in schedules if each.param_name == field),
        key=lambda each: each.end * (epoch_length or 1) if each.by_epoch else each.end,
    )
