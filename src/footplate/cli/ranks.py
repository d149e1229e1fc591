"""Commands in one of several processes: what went wrong is said once, and the exit code is that of all."""

import os
import sys
import time
from collections.abc import Callable

_LAUNCHED = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_BEFORE_OTHERS = 2.0  # seconds in which whoever started the processes ends them when the first rank has failed


def with_others(command: Callable[[], int], *, quiet: bool = True) -> int:
    """Returns what a command returns; an error of one of several ranks ends the process, and all others too.

    Args:
        command: Runs it.
        quiet: Whether an error that the ranks have told of is not raised once more.
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
        os._exit(code)  # the way out through Python takes seconds on a busy machine, and nothing is left to be done


def _code_of_all(error: BaseException) -> int | None:
    """The exit code of all ranks, when what happened is said; None where this process is to say it."""
    if "footplate.engine" not in sys.modules:
        _let_first_speak()
        return None
    from footplate.engine.together import fail
    from footplate.errors import FootplateError

    try:
        code = fail(error)
    except FootplateError as other:
        return other.exit_code
    if code is None:
        _let_first_speak()
    return code


def _let_first_speak() -> None:
    """Before the ranks know each other all find the same error: the first one tells it."""
    from footplate.distributed import get_world_size, rank_from_environment

    if rank_from_environment() and get_world_size() == 1:
        sys.stdout.flush()
        time.sleep(_BEFORE_OTHERS)
