"""Restores the schedules of a resumed run, or fast-forwards them to its position."""

import logging
from collections.abc import Sequence
from typing import Any

from footplate.optim.schedules import Schedule, collect_steps
from footplate.optim.schedules.torch_schedule import TorchSchedule

_logger = logging.getLogger("footplate.optim")


def restore_schedules(schedules: Sequence[Schedule], states: Sequence[Any], loop: Any, saved_iter: int) -> None:
    """Restores an optimizer's schedules, or fast-forwards them if they differ from the saved ones.

    If the batch size has changed, the loop's iteration differs from `saved_iter`, so schedules that count iterations
    are fast-forwarded too. The schedules are not fast-forwarded if one of them is a `ReduceOnPlateau`, whose reductions
    would be lost.

    Args:
        schedules: The schedules.
        states: The saved states.
        loop: The training loop, at the position where the run resumes.
        saved_iter: The iteration in the checkpoint.
    """
    pairs = list(zip(schedules, states, strict=False))
    has_metrics = any(schedule.takes_metrics for schedule in schedules)
    needs_no_move = loop.iter == saved_iter or has_metrics or all(schedule.by_epoch for schedule in schedules)
    changes = [change for schedule, saved in pairs for change in schedule.changes(saved)]
    if len(schedules) == len(states) and not changes and needs_no_move:
        # In the order in which a run steps them: a schedule that was saved at its end may step when loaded.
        for schedule, saved in sorted(pairs, key=lambda pair: bool(pair[0].by_epoch)):
            schedule.resume(saved)
        return
    current_types = ", ".join(type(schedule).__name__ for schedule in schedules) or "none"
    saved_types = ", ".join(str(saved.get("type", saved.get("param_name"))) for saved in states) or "none"
    _logger.warning(
        "The schedules in the config (%s, at iteration %d) differ from those in the checkpoint (%s, at iteration "
        "%d). Using the schedules in the config, fast-forwarded to the current iteration.%s%s",
        current_types,
        loop.iter,
        saved_types,
        saved_iter,
        " Schedules that monitor a metric restart from their initial state." if has_metrics else "",
        f" Changed: {', '.join(changes)}." if changes else "",
    )
    fast_forward(schedules, loop, states)


def fast_forward(schedules: Sequence[Schedule], loop: Any, saved: Sequence[Any]) -> None:
    """Fast-forwards an optimizer's schedules to the position of the training loop, except those that monitor a metric.

    If the run was saved before the hooks of an epoch's end, they still have to step the schedules that count epochs.

    If a checkpoint contains schedules, `saved` contains their states. Warns if a schedule that monitors a metric loses
    the changes that it has made.
    """
    moving = [schedule for schedule in schedules if not schedule.takes_metrics]
    values = {
        str(state.get("type")): state.get("_last_value") or state.get("state", {}).get("_last_lr") for state in saved
    }
    for schedule in moving:
        schedule.rewind(saved)
    for schedule in moving:
        schedule.start()
    # The wrapper's number of losses is not that of the iterations below.
    by_step = [part for part in moving if isinstance(part, TorchSchedule) and part.iterations_per_step > 1]
    for schedule in by_step:
        for _ in range(loop.iter // schedule.iterations_per_step):
            schedule.scheduler.step()
    moves = collect_steps([schedule for schedule in moving if schedule not in by_step])
    length, epochs = (loop.max_iters // loop.max_epochs, loop.epoch) if loop.by_epoch else (0, 0)
    for iteration in range(1, loop.iter + 1):
        for step in moves.by_iter:
            step()
        if epochs and length and iteration % length == 0:
            epochs -= 1
            for step in moves.by_epoch:
                step()
    for step in moves.by_epoch * epochs:  # if the length of an epoch is not what the loader says
        step()
    for schedule in schedules:
        old, new = values.get(schedule.state_dict()["type"]), schedule.get_last_value()
        if schedule.takes_metrics and old and old != new:
            _logger.warning(
                "A schedule that monitors a metric starts over with %s %s. Before, it had reached %s. To continue with "
                "that value, set it in the optimizer.",
                schedule.param_name,
                *(", ".join(f"{value:g}" for value in values) for values in (new, old)),
            )
