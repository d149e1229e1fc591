"""Which schedules move when."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from footplate.optim.schedules.param_schedule import ParamSchedule


class Moves(NamedTuple):
    """The steps of a run's schedules, each in the order in which they act."""

    by_iter: list[Callable[[], None]]
    """After each iteration of training."""
    by_epoch: list[Callable[[], None]]
    """After each epoch of training."""
    by_metrics: list[Callable[..., None]]
    """After each validation, with its metrics."""


def moves_of(schedules: Iterable[ParamSchedule] | Mapping[str, Iterable[ParamSchedule]]) -> Moves:
    """Sorts schedules by what moves them.

    Args:
        schedules: Schedules, or lists of them by the name of an optimizer.
    """
    parts = schedules.values() if isinstance(schedules, Mapping) else [schedules]
    moves = Moves([], [], [])
    for schedule in (each for part in parts for each in part):
        if schedule.takes_metrics:
            moves.by_metrics.append(schedule.step)
        else:
            (moves.by_epoch if schedule.by_epoch else moves.by_iter).append(schedule.step)
    return moves
