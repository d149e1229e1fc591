"""Saving a run whose data cannot be read: between two iterations nothing of it is half done."""

import logging
import traceback
from typing import TYPE_CHECKING

from footplate.engine.signals import Requests, are_reading, asking, save_on_request
from footplate.error_context import add_note

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_NO_READING = ("train", "evaluate")  # what loops call besides where they ask for data: of a model, of an evaluator
_AT_ANY_TIME = Requests._on_end_of_child.__name__
_AT_END = Requests.raise_lost.__name__  # of an iteration in which a worker died
_VALIDATING = ("_validate", "run", "_evaluate")


def who_asked_for_data(error: Exception) -> str:
    """Returns which function of a loop asked for data that could not be read; "" where something else failed.

    Args:
        error: As the loop that trains gets it.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [frame.f_code.co_name for frame in frames]
    came_between = _AT_ANY_TIME in names
    if came_between:  # torch raises for a worker that died in whatever this process does
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
    """Checks whether a run may be saved at an error of its data.

    Several processes may not: the others are within the next iteration, or wait there for this one. Nor may one with
    weights that a hook has put in for a validation.
    """
    return runner.world_size == 1 and not runner.requests.patient


def rescue(runner: "Runner", error: Exception) -> None:
    """Saves a run as at a signal, and has the error say where, or why not; the error stays what it is."""
    saver = runner.saver
    saver.ends = True
    try:
        path = save_on_request(runner)
        saver.settle()
        lost = saver.lost
    except Exception as second:  # the first error is what has to be mended
        lost = str(second).split("\n", 1)[0]
    if lost is None:
        runner.requests.rescued = True
        note = f"saved after iteration {runner.iter}: {path}; --resume (resume=True) goes on there, once this is mended"
    else:
        note = f"NOT saved after iteration {runner.iter}: {lost}; the last checkpoint is {saver.last}"
    _logger.warning("data could not be read: %s", note)
    add_note(error, note)
