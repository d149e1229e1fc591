"""Opens the folder of a run, and handles errors that end the run."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from footplate.advice import advise
from footplate.data import explain_worker_death
from footplate.distributed import is_main_process
from footplate.distributed.failures import LOST_RANK, is_lost_connection
from footplate.engine.control.process_setup import is_notebook
from footplate.engine.control.requests import EarlyExitError, Interrupted, InterruptedCell
from footplate.engine.loops.loop_run import LoopRun
from footplate.engine.plan.invalid_labels import label_advice
from footplate.engine.run.components import built_loaders
from footplate.engine.run.folder_opening import open_folder
from footplate.engine.saving.resume_plan import ResumePlan
from footplate.error_context import NOT_USER_CODE, add_note, innermost_user_line, locate
from footplate.errors import ArgumentError, CheckpointError, ExitError, FootplateError
from footplate.records import NOT_SHOWN, logger
from footplate.storage.file_operations import NO_SPACE

_logger = logging.getLogger("footplate.engine")
_MAX_LINES = 5  # the maximum number of lines of an error message in the log


@contextmanager
def refusing_exits() -> Iterator[None]:
    """Converts a SystemExit into an error if user code raises it before the run is complete.

    Raises:
        ExitError: The block raised SystemExit for a reason other than a signal.
    """
    try:
        yield
    except Interrupted:
        raise
    except SystemExit as error:
        raise _exit_error(error) from error


def _exit_error(error: SystemExit) -> ExitError:
    line = innermost_user_line(traceback.walk_tb(error.__traceback__))
    return ExitError(
        f"SystemExit({error.code!r}) was raised at {line} before the run was complete",
        notes=[
            "Raise an error instead. To end training early, set `runner.train_loop.stop_training = True` in a hook."
        ],
    )


@contextmanager
def running(runner: LoopRun, resume_plan: ResumePlan, *, for_training: bool) -> Iterator[None]:
    """Opens the run folder for the duration of the block, and handles errors raised inside it.

    Where possible, adds details to the error, such as its location in the config or the sample that a dead worker was
    reading. Writes the error only to the log file; the caller is expected to print it. Always waits for a save in
    progress.

    Args:
        runner: The run.
        resume_plan: How to resume the run, for errors.
        for_training: Whether checkpoints will be saved.

    Raises:
        ArgumentError: Another process is using one of the run's folders, or a folder contains another run's
            checkpoints.
        DataError: A loader worker died.
        ExitError: User code raised SystemExit.
    """
    resources = ExitStack()
    resources.enter_context(runner.phase("run"))
    try:
        open_folder(runner, resume_plan, resources, for_training=for_training)
        try:
            yield
        except BaseException:
            try:
                runner.saver.wait()
            except CheckpointError:  # already logged; the error that ended the run matters more
                pass
            except Exception as failure:
                _logger.error("A hook failed after a save: %s", failure)
            raise
        runner.saver.wait()
    except EarlyExitError:
        raise
    except (Exception, SystemExit) as error:
        completed = error if isinstance(error, Interrupted) else _completed(runner, error)
        if for_training and is_main_process():
            reason = error.name if isinstance(error, Interrupted) else f"an error: {_first_lines(completed, 1)}"
            runner.folder.record_stop(reason, runner.iter)
        if isinstance(error, Interrupted):
            if error.name == "SIGINT" and is_notebook():
                raise InterruptedCell(str(error)) from error
            raise
        advise(completed)
        runner.visualizer.close()
        # Only rank 0 prints its error. Other ranks write the traceback to their own log file.
        trace = None if is_main_process() else completed
        _logger.error("The run failed: %s", _first_lines(completed), extra=NOT_SHOWN, exc_info=trace)
        if for_training and isinstance(completed, ArgumentError) and not runner.iter:
            resources.close()
            runner.folder.remove_failed_start()
        if completed is not error:
            raise completed from error
        raise
    finally:
        logger.live_rows = 0  # a display that no hook has closed
        resources.close()


def _completed(runner: LoopRun, error: Exception | SystemExit) -> Exception:
    if isinstance(error, SystemExit):
        return _exit_error(error)
    if isinstance(error, FootplateError):
        locate(error, runner.cfg)
        return error
    if getattr(error, "errno", None) in NO_SPACE:
        return ArgumentError(f"cannot write: {error}")
    for note in label_advice(error):
        add_note(error, note)
    explained = explain_worker_death(error, built_loaders(runner.built))
    if explained is None and runner.is_plain:
        _omit_engine_frames(error)
    return explained or error


def _omit_engine_frames(error: Exception) -> None:
    """Removes the frames between `Runner.train` (or `val`, `test`) and the first frame of user code."""
    method: Any = getattr(error.__traceback__, "tb_next", None)  # the runner's method, in the frame after `running`
    inner = method
    while inner := getattr(inner, "tb_next", None):
        if not inner.tb_frame.f_code.co_filename.startswith(NOT_USER_CODE):
            method.tb_next = inner
            return


def _first_lines(error: Exception | SystemExit, maximum: int = _MAX_LINES) -> str:
    """Joins the first lines of an error message into one line."""
    if is_lost_connection(error):
        return f"{LOST_RANK}; see the terminal and rank_*.log"
    text = "; ".join(line.strip() for line in str(error).strip().splitlines()[:maximum])
    return text if isinstance(error, FootplateError) else f"{type(error).__name__}: {text}"
