"""Runs a command in one of several processes, with one error message and one exit code for all."""

import os
import sys
import time
from collections.abc import Callable

_LAUNCHED = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_BEFORE_OTHERS = 2.0  # seconds in which a launcher stops the other processes after the first rank failed


def with_others(command: Callable[[], int], *, quiet: bool = True) -> int:
    """Returns the result of a command; an error on one of several ranks ends the processes of all ranks.

    Args:
        command: Runs the command.
        quiet: Whether to suppress an error that the ranks have reported.
    """
    try:
        return command()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if not any(name in os.environ for name in _LAUNCHED):
            raise
        code = _code_of_all(error)
        if code is None or not quiet:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # a normal exit takes seconds on a busy machine, and there is nothing left to clean up


def _code_of_all(error: BaseException) -> int | None:
    """Returns the exit code of all ranks if the error has been reported; None if this process must report it."""
    if "footplate.engine" not in sys.modules:
        _let_first_speak()
        return None
    from footplate.engine.rank_failures import report_failure
    from footplate.errors import FootplateError

    try:
        code = report_failure(error)
    except FootplateError as other:
        return other.exit_code
    if code is None:
        _let_first_speak()
    return code


def _let_first_speak() -> None:
    """Delays all ranks but the first; before they are connected, all find the same error, which one should report."""
    from footplate.distributed import get_world_size, rank_from_environment

    if rank_from_environment() and get_world_size() == 1:
        sys.stdout.flush()
        time.sleep(_BEFORE_OTHERS)
