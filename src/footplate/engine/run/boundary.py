"""The point between two iterations, at which a run saves, stops, and reports what has been saved."""

import logging
import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from footplate.checkpoint import SaveRequest
from footplate.data import kill_workers
from footplate.data.waiting import data_wait
from footplate.distributed import compute_on_ranks, gather_objects, get_world_size
from footplate.engine.control.requests import ON_REQUEST, Interrupted
from footplate.engine.run.components import built_loaders
from footplate.engine.saving.participants import RecordedState
from footplate.error_context import add_note
from footplate.errors import shown_path
from footplate.messages import first_line

if TYPE_CHECKING:
    from footplate.engine.run.runner import Runner

_logger = logging.getLogger("footplate.engine")


class Boundary:
    """Handles the requests of a run between iterations, and saves the run if reading data fails.

    The training loop calls `handle` after each iteration, epoch and validation run. Requested saves start there, and
    where `start_saves` is called: before a user's loop runs, and at the end of training.

    Args:
        runner: The runner.

    Attributes:
        recorded_states: The states to save instead of the current ones, by their key path in the checkpoint, while the
            run is saved because a validation run was left.
    """

    def __init__(self, runner: "Runner") -> None:
        self.recorded_states: Mapping[str, Mapping[str, Any]] = {}
        self._reference = weakref.ref(runner)  # so that deleting a runner without loops frees its model at once
        self._requests = runner.requests
        self._saver = runner.saver

    @property
    def _runner(self) -> "Runner":
        return self._reference()  # type: ignore[return-value]

    def handle(self) -> None:
        """Handles the requests that arrived during an iteration or validation run.

        In this order: exchanges requests with the other ranks when due, raises the error of a dead worker, reports the
        save that has ended in the background, starts the saves that hooks have requested, and saves or stops the run if
        a signal requested it. The loops themselves handle requests to validate or to end training early.

        Raises:
            Interrupted: A signal requested a stop. The run has been saved, unless saving failed (see the log).
            CheckpointError: A save failed, and `on_save_error` is "stop".
            RuntimeError: A worker died.
        """
        requests = self._requests
        agreed = requests.agreed
        if not requests.is_single_process:
            requests.exchange_if_due()
        # If the run is about to stop, it needs no more data, so the death of a worker does not matter.
        if not agreed.signal and (death := data_wait.pending):
            self.save_after_data_error(death)
            raise death
        if self._saver.in_progress is not None:
            self._saver.complete()
        if requests.saves:
            self.start_saves()
        # A stop would skip what a run whose final save has started does not repeat, such as the `after_run` hooks.
        must_stop = agreed.signal and not self._runner.train_loop.ended
        if not agreed.save and not must_stop:
            return
        agreed.save = False
        self.save_on_request()
        if must_stop:
            self.end_run()

    def handle_before(self, recorded: RecordedState) -> None:
        """Handles requests in the state from before a validation run that was left; see `handle`."""
        with recorded.restored():
            self.recorded_states = recorded.states
            try:
                self.handle()
            finally:
                self.recorded_states = {}

    def end_run(self) -> NoReturn:
        """Ends the run because of a signal, once the save in progress is complete.

        Raises:
            Interrupted: Always.
        """
        runner = self._runner
        compute_on_ranks(self._saver.wait)  # the launcher may kill all ranks as soon as one has exited
        runner.visualizer.close()
        kill_workers(built_loaders(runner.built))  # hung workers would keep the process from exiting
        error = Interrupted(self._requests.agreed.signal)
        advice = f"Resume to continue from there: {runner.resume_plan.option}."
        if runner.resume_plan.resume == "auto":
            advice = "Start the same run again to continue from there."
        if runner.iter == 0 and self._saver.last is None:
            advice = "Nothing was saved yet: start the run again."
        if self._saver.failure is not None:
            advice = f"The run was NOT saved. The last checkpoint: {self._saver.last or 'none'}."
        _logger.warning("%s: stopped after iteration %d. %s", error.name, runner.iter, advice)
        raise error

    def start_saves(self) -> None:
        """Starts the saves that hooks have requested, one after the other."""
        requests = self._requests
        saves, requests.saves = requests.saves, []
        for request in saves:
            self.start_save(request)

    def start_save(self, request: SaveRequest) -> None:
        """Starts a save in the background with `Runner.save_checkpoint`, which a user's class may override."""
        if request.is_final:
            self._runner.train_loop.end()
        folder, name = os.path.split(request.path)
        self._runner.save_checkpoint(
            folder,
            name,
            save_optimizer=request.save_optimizer,
            save_param_scheduler=request.save_param_scheduler,
            background=True,
            home=request.home,
        )

    def save_on_request(self) -> str:
        """Starts a background save and returns the checkpoint path. Called between two iterations.

        Until the next save, a resume starts from this checkpoint.
        """
        runner = self._runner
        folder = next((hook.folder_in(runner) for hook in runner.hooks.saving), runner.folder.home)
        path = os.path.join(folder, self._saver.name_of(ON_REQUEST))
        self.start_save(SaveRequest(path, runner.folder.home))
        _logger.info("Saving a checkpoint after iteration %d: %s", runner.iter, shown_path(path))
        return path

    def save_after_data_error(self, error: BaseException) -> None:
        """Saves the run after a data error, and adds a note with the checkpoint path to the error.

        Does nothing in a trial run, or if the run has already been saved. Multi-process runs are not saved, because
        other ranks may already be in the next iteration.
        """
        runner, requests, saver = self._runner, self._requests, self._saver
        if not requests.can_save_after_error or requests.saved_after_error:
            return
        if get_world_size() > 1:
            add_note(error, "The run was NOT saved, because it has several processes.")
            return
        try:
            path = self.save_on_request()
            saver.wait()
            failure = saver.failure
        except Exception as second:  # the first error is the one to fix
            failure = first_line(second)
        if failure is None:
            requests.saved_after_error = True
            option = "resume=True" if runner.is_plain else runner.resume_plan.option
            how = "start the same run again" if runner.resume_plan.resume == "auto" else f"resume with {option}"
            note = f"saved after iteration {runner.iter}: {path}. Fix the cause and {how}."
        else:
            note = f"NOT saved after iteration {runner.iter}: {failure}. The last checkpoint: {saver.last or 'none'}."
        add_note(error, f"The run was {note}")

    def record(self) -> RecordedState | None:
        """Records the state before a validation, or returns None if the validation must be completed.

        Participants of users may be large, so they are not copied. All ranks must call this method.
        """
        is_small = not self._runner.participants
        return RecordedState(self._runner.parts) if all(gather_objects(is_small)) else None
