"""Handles the requests of a run between iterations, and saves the run if reading data fails."""

import logging
import os
from typing import TYPE_CHECKING, NoReturn

from footplate.checkpoint import SaveRequest
from footplate.data import kill_workers
from footplate.data.waiting import data_wait
from footplate.distributed import compute_on_ranks
from footplate.engine.stopping.requests import ON_REQUEST, Interrupted
from footplate.error_context import add_note
from footplate.errors import shown_path
from footplate.messages import first_line

if TYPE_CHECKING:
    from footplate.engine.running.runner import Runner

_logger = logging.getLogger("footplate.engine")


def handle_requests(runner: "Runner") -> None:
    """Reports and starts saves, and handles the requests that arrived during an iteration or validation run.

    The training loop calls this function after each iteration, epoch and validation run. While it trains, these are the
    points at which saves start that hooks or signals have requested.

    In this order: exchanges requests with the other ranks when due, raises the error of a dead worker, reports the save
    that has ended in the background, starts the saves that hooks have requested, and saves or stops the run if a signal
    requested it. The loops themselves handle requests to validate or to end training early.

    Raises:
        Interrupted: A signal requested a stop. The run has been saved, unless saving failed (see the log).
        CheckpointError: A save failed, and `on_save_error` is "stop".
        RuntimeError: A worker died.
    """
    requests = runner.requests
    agreed = requests.agreed
    if not requests.is_single_process:
        requests.exchange_if_due()
    # If the run is about to stop, it needs no more data, so the death of a worker does not matter.
    if not agreed.signal and (death := data_wait.pending):
        save_after_data_error(runner, death)
        raise death
    if runner.saver.in_progress is not None:
        runner.saver.complete()
    if requests.saves:
        start_saves(runner)
    if not agreed.save and not agreed.signal:
        return
    agreed.save = False
    save_on_request(runner)
    if agreed.signal:
        end_run(runner)


def end_run(runner: "Runner") -> NoReturn:
    """Ends the run because of a signal, once the save in progress is complete.

    Raises:
        Interrupted: Always.
    """
    compute_on_ranks(runner.saver.wait)  # the launcher may kill all ranks as soon as one has exited
    runner.visualizer.close()
    kill_workers(runner.built_loaders())  # hung workers would keep the process from exiting
    error = Interrupted(runner.requests.agreed.signal)
    advice = f"Resume to continue from there: {runner.resume_plan.option}."
    if runner.resume_plan.resume == "auto":
        advice = "Start the same run again to continue from there."
    if runner.iter == 0:
        advice = "Nothing was saved yet: start the run again."
    if runner.saver.failure is not None:
        advice = f"The run was NOT saved. The last checkpoint: {runner.saver.last or 'none'}."
    _logger.warning("%s: stopped after iteration %d. %s", error.name, runner.iter, advice)
    raise error


def start_saves(runner: "Runner") -> None:
    """Starts the saves that hooks have requested, one after the other."""
    saves, runner.requests.saves = runner.requests.saves, []
    for request in saves:
        start_save(runner, request)


def start_save(runner: "Runner", request: SaveRequest) -> None:
    """Starts a save in the background. Goes through `Runner.save_checkpoint`, which a user's class may override."""
    folder, name = os.path.split(request.path)
    runner.save_checkpoint(
        folder,
        name,
        save_optimizer=request.save_optimizer,
        save_param_scheduler=request.save_param_scheduler,
        background=True,
        home=request.home,
    )


def save_on_request(runner: "Runner") -> str:
    """Starts a background save and returns the checkpoint path. Called between two iterations.

    Until the next save, a resume starts from this checkpoint.
    """
    folder = next((hook.folder_in(runner) for hook in runner.hooks.saving), runner.folder.home)
    path = os.path.join(folder, runner.saver.name_of(ON_REQUEST))
    start_save(runner, SaveRequest(path, runner.folder.home))
    _logger.info("Saving a checkpoint after iteration %d: %s", runner.iter, shown_path(path))
    return path


def save_after_data_error(runner: "Runner", error: BaseException) -> None:
    """Saves the run after a data error, and adds a note with the checkpoint path to the error.

    Does nothing in a trial run, or if the run has already been saved. Multi-process runs are not saved, because other
    ranks may already be in the next iteration.
    """
    requests = runner.requests
    saver = runner.saver
    if not requests.can_save_after_error or requests.saved_after_error:
        return
    if runner.world_size > 1:
        add_note(error, "The run was NOT saved, because it has several processes.")
        return
    try:
        path = save_on_request(runner)
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
