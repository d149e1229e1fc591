"""The place through which errors leave a run."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from footplate.data import explain_worker_death
from footplate.engine.nonfinite import capture_failure
from footplate.engine.signals import Interrupted
from footplate.error_context import innermost_user_line, locate
from footplate.errors import ExitError, FootplateError, NonFiniteError

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


@contextmanager
def refusing_exits() -> Iterator[None]:
    """Replaces a SystemExit raised by user code with an error, because the run is not complete.

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
        f"user code raised SystemExit({error.code!r}) at {line}, and the run is not complete",
        notes=["Raise an error there, or set `runner.train_loop.stop_training = True` in a hook."],
    )


@contextmanager
def reporting_errors(runner: "Runner") -> Iterator[None]:
    """Completes an error that ends a run: with its place in the config, a dead worker's sample, or a capture.

    Waits for a save in progress, even if there is no error.

    Raises:
        DataError: A worker has died.
        ExitError: User code has raised SystemExit.
    """
    try:
        yield
    except Interrupted:
        raise
    except SystemExit as error:
        raise _exit_error(error) from error
    except FootplateError as error:
        locate(error, runner.cfg)
        if isinstance(error, NonFiniteError):
            capture_failure(runner, error)
        raise
    except Exception as error:
        death = explain_worker_death(error, runner.built_loaders())
        if death is None:
            raise
        raise death from error
    finally:
        runner.saver.wait()
