"""Saves a run whose data cannot be read. This is safe between two iterations, when nothing is half done."""

import logging
import traceback
from typing import TYPE_CHECKING

from footplate.engine.signals import Requests, are_reading, asking, save_on_request
from footplate.error_context import add_note

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_NO_READING = ("train", "evaluate")  # what loops call that is not reading data: of the model, of the evaluator
_AT_ANY_TIME = Requests._on_end_of_child.__name__
_AT_END = Requests.raise_lost.__name__  # at the end of an iteration in which a worker died
_VALIDATING = ("_validate", "run", "_evaluate")


def who_asked_for_data(error: Exception) -> str:
    """Returns the name of the loop's function that failed to read data, or "" if something else failed.

    Args:
        error: The error as the training loop catches it.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_code.co_name for frame in frames]
    came_between = _AT_ANY_TIME in names
    if came_between:  # torch raises for a dead worker in the middle of whatever this process does
        frames = frames[: names.index(_AT_ANY_TIME)]
        if _VALIDATING in zip(names, names[1:], names[2:], strict=False):
            return _VALIDATING[-1]
    within, function = asking(reversed(frames))
    if came_between:
        return function if are_reading(within) else ""
    if not within:
        return names[-1] if names[-1] == _AT_END else ""
    return "" if within[-1].f_code.co_name in _NO_READING else function


def may_rescue(runner: "Runner") -> bool:
    """Checks whether a run may be saved after reading data failed.

    A run on several processes may not: the others are in the next iteration, or wait there for this one. A run whose
    weights a hook has swapped for a validation may not either.
    """
    return runner.world_size == 1 and not runner.requests.patient


def rescue(runner: "Runner", error: Exception) -> None:
    """Saves a run as a signal request would, and adds a note to the error that says where, or why it failed."""
    saver = runner.saver
    saver.ends = True
    try:
        path = save_on_request(runner)
        saver.settle()
        lost = saver.lost
    except Exception as second:  # the first error is the one to fix
        lost = str(second).split("\n", 1)[0]
    if lost is None:
        runner.requests.rescued = True
        note = f"saved after iteration {runner.iter}: {path}; --resume (resume=True) goes on there, once this is mended"
    else:
        note = f"NOT saved after iteration {runner.iter}: {lost}; the last checkpoint is {saver.last}"
    _logger.warning("data could not be read: %s", note)
    add_note(error, note)
