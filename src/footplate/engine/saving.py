"""Saving a run beside its training, and what happens when that fails."""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from footplate.checkpoint import BackgroundSaver, is_folder, name_in_parts
from footplate.distributed import is_distributed, is_main_process
from footplate.distributed.sharding import gather_full_state, is_sharded, reshard
from footplate.engine import state
from footplate.engine.nonfinite import check_weights
from footplate.errors import ArgumentError, NonFiniteError
from footplate.messages import nearest

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_POLICIES = ("warn", "stop")


class RunSaver:
    """Saves checkpoints in the background, one at a time, and does what `on_save_error` says when one fails.

    A save that fails leaves what was there. It is logged at once; with "warn" training goes on, with "stop" the
    error is raised as soon as the training loop, or the next save, comes by.

    Args:
        on_error: "warn" or "stop".
        alarm: Called when a save fails, in the thread of the save; with "stop" alone.

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
        self.last: str | None = None  # the newest whole checkpoint of this run, or the one it goes on from
        self.lost: str | None = None  # what became of the newest save, where it failed
        self.ends = False  # whether the run ends with the present save, whatever becomes of it
        self.checks: Sequence[Callable[[], None]] = ()  # each raises where the run's folder is another run's by now
        self.in_parts = False  # whether each rank writes what it holds, to a folder

    def name_of(self, name: str) -> str:
        """Returns what a checkpoint called `name` is called as this run saves it."""
        return name_in_parts(name) if self.in_parts else name

    def save(
        self,
        checkpoint: Mapping[str, Any],
        path: str,
        *,
        then: Callable[[], None] | None = None,
        undo: Callable[[], None] | None = None,
        replicated: Set[int] = frozenset(),
    ) -> None:
        """Copies a checkpoint and commits it while the caller goes on; waits first for the save before it.

        Args:
            checkpoint: See `footplate.checkpoint.save_checkpoint`.
            path: Where to.
            then: Called behind the commit, in the thread of the save.
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
            if not self.in_parts:  # else the other ranks would wait for this one's part
                for check in self.checks:
                    check()
            self._saver.save(checkpoint, path, then=committed, otherwise=self._say, replicated=replicated)
        except Exception as error:  # noqa: BLE001 - raised again where the policy says so
            self._say(error)
            self._failed(error)

    def settle(self) -> None:
        """Returns when nothing is in flight.

        Raises:
            CheckpointError: With "stop": the save that was in flight failed.
        """
        try:
            self._saver.wait()
        except Exception as error:  # noqa: BLE001 - raised again where the policy says so
            self._failed(error)

    def refuse(self, error: Exception, undo: Callable[[], None] | None = None) -> None:
        """Takes note of a save that is not even begun, since what would be saved is no good."""
        _logger.error("%s", error)
        self.lost = str(error).split("\n", 1)[0]
        if undo is not None:
            undo()

    def _say(self, error: BaseException) -> None:
        goes_on = "training goes on" if self.on_error == "warn" and not self.ends else "training stops"
        last = f"the last checkpoint is '{self.last}'" if self.last else "there is no checkpoint of this run yet"
        _logger.error("not saved: %s; %s, %s", error, goes_on, last)
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
    """Saves a run as it stands; see `Runner.save_checkpoint`.

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
    in_parts = is_folder(path)
    if not in_parts:
        checkpoint = _whole(runner, checkpoint, together=background)
    if in_parts or is_main_process():
        alike = state.held_alike(runner) if in_parts else frozenset()
        runner.saver.save(checkpoint, path, then=then, undo=undo, replicated=alike)
        if not background:
            runner.saver.settle()


def _whole(runner: "Runner", checkpoint: dict[str, Any], *, together: bool) -> dict[str, Any]:
    """Returns a checkpoint for a single file: what lies in parts on several processes is put together."""
    if is_sharded(runner.model):
        found: dict[str, Any] = gather_full_state(checkpoint)
        return found
    if together and is_distributed() and "optimizer" in checkpoint:
        checkpoint["optimizer"] = gather_full_state(
            checkpoint["optimizer"]
        )  # gradients of a round, of each rank its own
    return checkpoint
