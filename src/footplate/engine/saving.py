"""Prepares the checkpoints of a run, and saves the run on request or when its data cannot be read."""

import errno
import logging
import os
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, Any

import torch

from footplate import storage
from footplate.checkpoint import is_sharded_path, read_contents, remove_checkpoint, write_pointer
from footplate.checkpoint.serializable import gather_full_state
from footplate.distributed import is_distributed, is_main_process, unwrap_model
from footplate.distributed.sharding import is_dtensor, is_sharded, reshard
from footplate.engine import state
from footplate.engine.nonfinite import check_weights
from footplate.engine.phase import Phase
from footplate.error_context import add_note
from footplate.errors import CheckpointError, NonFiniteError

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
ON_REQUEST = "on_signal.pth"
EARLIER = "on_signal_earlier.pth"


def checkpoint_to_save(
    runner: "Runner",
    path: str,
    *,
    save_optimizer: bool,
    save_param_scheduler: bool,
    meta: Mapping[str, Any] | None,
    together: bool,
    undo: Callable[[], None] | None,
) -> dict[str, Any] | None:
    """Returns the checkpoint of a run in its current state, or None if this rank saves nothing.

    Args:
        runner: The runner.
        path: The path at which it will be saved.
        save_optimizer: Whether to include the optimizer state.
        save_param_scheduler: Whether to include the state of the schedules.
        meta: Additional entries for the checkpoint's `meta`.
        together: Whether all ranks call this function.
        undo: Called if the weights are non-finite.

    Raises:
        NonFiniteError: The weights are non-finite, and `on_nonfinite` requires the run to stop.
    """
    reshard(runner.model)
    try:
        check_weights(runner)
    except NonFiniteError as error:
        if runner.nonfinite.loss == "stop":
            raise
        runner.saver.refuse(error, undo)
        return None
    checkpoint = state.capture(
        runner, save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler, together=together
    )
    checkpoint["meta"].update(meta or {})
    runner.call_hook("before_save_checkpoint", checkpoint=checkpoint)
    if is_sharded_path(path):
        return checkpoint
    if is_sharded(runner.model):
        checkpoint = gather_full_state(checkpoint)
    elif together and is_distributed() and "optimizer" in checkpoint:
        # Each rank has its own gradients of an accumulation round.
        checkpoint["optimizer"] = gather_full_state(checkpoint["optimizer"])
    return checkpoint if is_main_process() else None


def replicated_storages(runner: "Runner", path: str) -> Set[int]:
    """Returns the storage addresses of the replicated tensors. Each rank writes a part of each tensor to `path`."""
    if not is_sharded_path(path):
        return frozenset()
    wrappers = runner.optim_wrapper.parts.values()
    states = [value for each in wrappers for held in each.optimizer.state.values() for value in held.values()]
    tensors = [*unwrap_model(runner.model).parameters(), *(each for each in states if isinstance(each, torch.Tensor))]
    return {each.untyped_storage().data_ptr() for each in tensors if not is_dtensor(each)}


def save_on_request(runner: "Runner") -> str:
    """Starts saving a run between two iterations, and returns the path of the checkpoint.

    When the run is resumed, it starts from this checkpoint.
    """
    folder, name = runner.checkpoint_dir, runner.saver.name_of(ON_REQUEST)
    path, aside = os.path.join(folder, name), os.path.join(folder, runner.saver.name_of(EARLIER))
    # An earlier run may have saved a later iteration there, which is still needed if this run started over by mistake.
    if is_main_process() and max(runner.iter, _iteration_of(aside)) < _iteration_of(path):
        try:
            if not storage.is_local(path):
                raise OSError(errno.ENOTSUP, "only local checkpoints can be renamed")
            if is_sharded_path(aside):  # os.replace would replace a file but not a folder
                remove_checkpoint(aside)
            os.replace(path, aside)
            _logger.warning("Keeping a checkpoint of an earlier run at a later iteration as %s", aside)
        except (OSError, CheckpointError) as error:
            reason = getattr(error, "strerror", None) or error
            _logger.warning(
                "Overwriting '%s', a checkpoint of an earlier run at a later iteration, because it could not be "
                "moved: %s",
                path,
                reason,
            )
    outer, runner.phase = runner.phase, Phase.SAVING
    runner.save_checkpoint(folder, name, background=True, then=lambda: write_pointer(runner.home, path))
    runner.phase = outer
    _logger.info("Saving a checkpoint after iteration %d: %s", runner.iter, path)
    return path


def save_after_data_error(runner: "Runner", error: Exception) -> None:
    """Saves a run whose data cannot be read, between two iterations, and adds a note with the path to the error.

    Does nothing in a trial, if the run has already been saved, or while a hook has replaced the weights for a
    validation. Also does nothing if there are several processes, because the others may already be in the next
    iteration.
    """
    requests, saver = runner.requests, runner.saver
    if not requests.can_save_after_error or requests.saved_after_error or requests.must_finish_evaluation:
        return
    if runner.world_size > 1:
        return
    saver.ends = True
    try:
        path = save_on_request(runner)
        saver.settle()
        lost = saver.lost
    except Exception as second:  # the first error is the one to fix
        lost = str(second).split("\n", 1)[0]
    if lost is None:
        requests.saved_after_error = True
        note = f"saved after iteration {runner.iter}: {path}. Fix the data and resume with --resume (resume=True)."
    else:
        note = f"NOT saved after iteration {runner.iter}: {lost}. The last checkpoint is {saver.last}."
    _logger.warning("Reading data failed. The run was %s", note)
    add_note(error, f"The run was {note}")


def _iteration_of(path: str) -> float:
    """Returns the iteration of a checkpoint, or -1 if it does not exist or cannot be read."""
    try:
        return float(read_contents(path).meta["iter"])
    except (CheckpointError, KeyError, ValueError):
        return -1.0
