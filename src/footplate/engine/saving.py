"""Saves a run: in the background, on request, and when its data cannot be read. Handles failed saves."""

import errno
import logging
import os
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from footplate import storage
from footplate.checkpoint import (
    BackgroundSaver,
    is_sharded_path,
    read_contents,
    remove_checkpoint,
    sharded_name,
    write_pointer,
)
from footplate.distributed import is_distributed, is_main_process
from footplate.distributed.sharding import gather_full_state, is_sharded, reshard
from footplate.engine import state
from footplate.engine.nonfinite import check_weights
from footplate.engine.phase import Phase
from footplate.error_context import add_note
from footplate.errors import ArgumentError, CheckpointError, NonFiniteError
from footplate.messages import nearest

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_POLICIES = ("warn", "stop")
ON_REQUEST = "on_signal.pth"
EARLIER = "on_signal_earlier.pth"


class RunSaver:
    """Saves checkpoints in the background, one at a time, and applies `on_save_error` if a save fails.

    A failed save leaves earlier checkpoints as they are. It is logged at once. With "warn", training continues. With
    "stop", the error is raised in the next check of the training loop or the next save.

    Args:
        on_error: "warn" or "stop".
        alarm: Called in the saving thread when a save fails, only with "stop".

    Raises:
        ArgumentError: There is no such policy.
    """

    def __init__(self, on_error: str = "warn", *, alarm: Callable[[], None] = lambda: None) -> None:
        if on_error not in _POLICIES:
            raise ArgumentError(
                "on_save_error is 'warn' or 'stop'",
                key="on_save_error",
                found=on_error,
                suggestion=nearest(str(on_error), _POLICIES),
            )
        self.on_error = on_error
        self._alarm = alarm
        self._saver = BackgroundSaver()
        self._undo: Callable[[], None] | None = None
        self.last: str | None = None  # the newest complete checkpoint of this run, or the one it resumed from
        self.lost: str | None = None  # why the newest save failed, if it did
        self.ends = False  # whether the run ends with the current save, even if the save fails
        self.checks: Sequence[Callable[[], None]] = ()  # each raises if another run has taken over the run's folder
        self.in_parts = False  # whether each rank writes its own shard, to a folder

    def name_of(self, name: str) -> str:
        """Returns the name under which this run saves a checkpoint called `name`."""
        return sharded_name(name) if self.in_parts else name

    def save(
        self,
        checkpoint: Mapping[str, Any],
        path: str,
        *,
        then: Callable[[], None] | None = None,
        undo: Callable[[], None] | None = None,
        replicated: Set[int] = frozenset(),
    ) -> None:
        """Copies a checkpoint and commits it in the background. Waits for the previous save first.

        Args:
            checkpoint: See `footplate.checkpoint.save_checkpoint`.
            path: The path of the checkpoint.
            then: Called after the commit, in the saving thread.
            undo: Called by a later `save` or `settle`, in its thread, if this save failed.
            replicated: See `BackgroundSaver.save`.

        Raises:
            CheckpointError: With "stop": this save, or the one before it, failed.
        """
        self.settle()
        self._undo = undo

        def committed() -> None:
            self.last, self.lost = path, None
            if then is not None:
                then()

        try:
            if not self.in_parts:  # otherwise the other ranks would wait for this rank's shard
                for check in self.checks:
                    check()
            self._saver.save(checkpoint, path, then=committed, otherwise=self._log_failure, replicated=replicated)
        except Exception as error:  # noqa: BLE001 - raised again if the policy is "stop"
            self._log_failure(error)
            self._failed(error)

    def settle(self) -> None:
        """Waits until no save is in progress.

        Raises:
            CheckpointError: With "stop": the save that was in flight failed.
        """
        try:
            self._saver.wait()
        except Exception as error:  # noqa: BLE001 - raised again if the policy is "stop"
            self._failed(error)

    def refuse(self, error: Exception, undo: Callable[[], None] | None = None) -> None:
        """Records a save that is not attempted because the state is invalid."""
        _logger.error("%s", error)
        self.lost = str(error).split("\n", 1)[0]
        if undo is not None:
            undo()

    def _log_failure(self, error: BaseException) -> None:
        outcome = "Training continues" if self.on_error == "warn" and not self.ends else "Training stops"
        last = f"the last checkpoint is '{self.last}'" if self.last else "there is no checkpoint of this run yet"
        _logger.error("Not saved: %s. %s; %s.", error, outcome, last)
        if self.on_error == "stop":
            self._alarm()
        self.lost = str(error).split("\n", 1)[0]

    def _failed(self, error: Exception) -> None:
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()
        if self.on_error == "stop":
            raise error


def save_run(
    runner: "Runner",
    path: str,
    *,
    save_optimizer: bool = True,
    save_param_scheduler: bool = True,
    meta: Mapping[str, Any] | None = None,
    background: bool = False,
    then: Callable[[], None] | None = None,
    undo: Callable[[], None] | None = None,
) -> None:
    """Saves a run in its current state; see `Runner.save_checkpoint`.

    Raises:
        CheckpointError: It failed, and `on_save_error` is "stop".
        NonFiniteError: The weights are not finite, and `on_nonfinite` says to stop at that.
    """
    reshard(runner.model)
    try:
        check_weights(runner)
    except NonFiniteError as error:
        if runner.nonfinite.loss == "stop":
            raise
        runner.saver.refuse(error, undo)
        return
    checkpoint = state.capture(
        runner, save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler, together=background
    )
    checkpoint["meta"].update(meta or {})
    runner.call_hook("before_save_checkpoint", checkpoint=checkpoint)
    in_parts = is_sharded_path(path)
    if not in_parts and is_sharded(runner.model):
        checkpoint = gather_full_state(checkpoint)
    elif not in_parts and background and is_distributed() and "optimizer" in checkpoint:
        # Each rank has its own gradients of an accumulation round.
        checkpoint["optimizer"] = gather_full_state(checkpoint["optimizer"])
    if in_parts or is_main_process():
        alike = state.held_alike(runner) if in_parts else frozenset()
        runner.saver.save(checkpoint, path, then=then, undo=undo, replicated=alike)
        if not background:
            runner.saver.settle()


def save_on_request(runner: "Runner") -> str:
    """Starts saving a run between two iterations, as its checkpoint to resume from, and returns the path."""
    folder, name = runner.checkpoint_dir, runner.saver.name_of(ON_REQUEST)
    path = os.path.join(folder, name)
    if is_main_process():
        _set_aside(path, os.path.join(folder, runner.saver.name_of(EARLIER)), runner.iter)
    outer, runner.phase = runner.phase, Phase.SAVING
    runner.save_checkpoint(folder, name, background=True, then=lambda: write_pointer(runner.home, path))
    runner.phase = outer
    _logger.info("Saving a checkpoint after iteration %d: %s", runner.iter, path)
    return path


def save_after_data_error(runner: "Runner", error: Exception) -> None:
    """Saves a run whose data cannot be read, between two iterations, and adds a note to the error that says where.

    Does nothing if the run is saved already, and on several processes: the others are in the next iteration, or wait
    there for this one. Also does nothing while a hook has replaced the weights for a validation.
    """
    requests, saver = runner.requests, runner.saver
    if requests.saved_after_error or requests.must_finish_evaluation or runner.world_size > 1:
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


def _set_aside(path: str, aside: str, done: int) -> None:
    """Keeps the checkpoint of an earlier run that had come further, in case this run started over by mistake.

    Args:
        path: The checkpoint that would be overwritten.
        aside: The path to move it to. A checkpoint there that had come even further stays.
        done: The number of iterations that this run has completed.
    """
    if not max(done, _iteration_of(aside)) < _iteration_of(path):
        return
    try:
        if not storage.is_local(path):
            raise OSError(errno.ENOTSUP, "only local checkpoints are set aside")
        if is_sharded_path(aside):  # os.replace would replace a file but not a folder
            remove_checkpoint(aside)
        os.replace(path, aside)
        _logger.warning("The checkpoint of an earlier run, which had come further, is kept as %s", aside)
    except (OSError, CheckpointError) as error:
        reason = getattr(error, "strerror", None) or error
        _logger.warning("'%s' of an earlier run, which had come further, is replaced: %s", path, reason)


def _iteration_of(path: str) -> float:
    """Returns the iteration of a checkpoint, or -1 if there is no readable one."""
    try:
        return float(read_contents(path).meta["iter"])
    except (CheckpointError, KeyError, ValueError):
        return -1.0
