"""The log folder and the log file of a run, and what the log begins and ends with."""

import itertools
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from footplate import storage
from footplate.distributed import is_main_process
from footplate.engine.signals import EarlyExitError
from footplate.errors import FootplateError
from footplate.records import NOT_SHOWN, describe_environment, logging_errors_to, logging_to, surviving_streams
from footplate.storage import commit_bytes

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_MOST_LINES = 5  # of an error message
_PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__main__.py")


def folders_of(work_dir: str) -> tuple[str, str]:
    """Returns the folder of a run's checkpoints and pointer file, and the local folder of its logs and lock.

    Raises:
        ArgumentError: The storage protocol of `work_dir` is unknown or not installed.
    """
    home = storage.absolute(work_dir)
    if storage.is_local(work_dir):
        return home, home
    storage.check_protocol(work_dir)
    return home.rstrip("/"), os.path.abspath(os.path.join("work_dirs", storage.base_name(home.rstrip("/"))))


def unused_name(work_dir: str) -> str:
    """Returns the current time as the name of a folder that does not exist in `work_dir`."""
    now = time.strftime("%Y%m%d_%H%M%S")
    names = itertools.chain([now], (f"{now}_{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(os.path.join(work_dir, name)))


def create_log_folder(work_dir: str, name: str) -> str:
    """Creates the log folder of a run and returns its name, which differs from `name` if that exists by now."""
    os.makedirs(work_dir, exist_ok=True)
    while True:
        try:
            os.mkdir(os.path.join(work_dir, name))
        except FileExistsError:
            name = unused_name(work_dir)
        else:
            return name


@contextmanager
def opened_log(
    runner: "Runner", records: Sequence[logging.LogRecord], log_file: Mapping[str, Any] | None
) -> Iterator[None]:
    """Writes the log to the log folder of the run during the block. Nothing is written before the block.

    In the block, printing raises no error after the terminal or pipe has been closed. Ranks other than the first write
    only their errors, each to its own file. An error that ends the run is logged to the file only, because whoever
    catches the error prints it.

    Args:
        runner: The runner.
        records: The records that were logged before the log file was open.
        log_file: The size limits of the log file, see `Runner`.
    """
    if not is_main_process():
        with logging_errors_to(os.path.join(runner.log_dir, f"rank_{runner.rank}.log")), surviving_streams():
            yield
        return
    os.makedirs(runner.log_dir, exist_ok=True)
    path = os.path.join(runner.log_dir, f"{runner.timestamp}.log")
    with logging_to(path, records, **(log_file or {})), surviving_streams():
        _log_start(runner)
        try:
            yield
        except EarlyExitError:
            raise
        except Exception as error:
            text = "; ".join(line.strip() for line in str(error).strip().splitlines()[:_MOST_LINES])
            name = "" if isinstance(error, FootplateError) else f"{type(error).__name__}: "
            _logger.error("ended by an error: %s%s", name, text, extra=NOT_SHOWN)
            raise


def _log_start(runner: "Runner") -> None:
    """Logs the command and the environment of a run, and saves the environment as JSON."""
    program, *arguments = sys.argv or [""]
    if os.path.abspath(program) == _PROGRAM:
        program = "footplate"
    name = os.path.basename(program)
    _logger.info("command: %s", shlex.join([name if name == "footplate" else program, *arguments]), extra=NOT_SHOWN)
    facts = describe_environment()
    commit_bytes(os.path.join(runner.log_dir, "environment.json"), json.dumps(facts, indent=1).encode())
    for key, value in facts.items():
        if isinstance(value, str):
            _logger.info("environment: %s: %s", key, value, extra=NOT_SHOWN)
    _logger.info("seed %d, device %s, work_dir %s", runner.seed, runner.device, runner.work_dir)
    if runner.world_size > 1:
        loader = runner.train_dataloader if "train_loop" in runner.built else None
        size = getattr(loader, "batch_size", None)
        samples = f", {size * runner.world_size} samples per iteration" if size else ""
        _logger.info("%d processes%s", runner.world_size, samples)
