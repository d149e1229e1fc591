"""Prepares the work_dir, the log and the description of the environment before a run begins."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from footplate.config import Config, unread_overrides, without_effect
from footplate.distributed import is_main_process
from footplate.engine.keys import READ_KEYS
from footplate.engine.signals import EarlyExitError
from footplate.engine.unsupported import unsupported_conveniences
from footplate.errors import FootplateError
from footplate.records import NOT_SHOWN, describe_environment, logging_errors_to, logging_to, surviving_streams
from footplate.storage import commit_bytes

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_MOST_LINES = 5
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@contextmanager
def opened(
    runner: "Runner", said_before: Sequence[logging.LogRecord], log_file: Mapping[str, Any] | None
) -> Iterator[None]:
    """Creates the folder of the run and logs to it during the block. Nothing is written before the block.

    In the block, printing raises no error after the terminal or pipe has been closed. Ranks other than the first write
    only their errors, each to its own file.

    Args:
        runner: The runner.
        said_before: The records that were logged before the log file was open.
        log_file: The size limits of the log file, see `Runner`.
    """
    if not is_main_process():
        with logging_errors_to(os.path.join(runner.log_dir, f"rank_{runner.rank}.log")), surviving_streams():
            yield
        return
    os.makedirs(runner.log_dir, exist_ok=True)
    path = os.path.join(runner.log_dir, f"{runner.timestamp}.log")
    with logging_to(path, said_before, **(log_file or {})), surviving_streams():
        _logger.info("command: %s", shlex.join(_command()), extra=NOT_SHOWN)
        facts = describe_environment()
        commit_bytes(os.path.join(runner.log_dir, "environment.json"), json.dumps(facts, indent=1).encode())
        for key, value in facts.items():
            if isinstance(value, str):
                _logger.info("environment: %s: %s", key, value, extra=NOT_SHOWN)
        _logger.info("seed %d, device %s, work_dir %s", runner.seed, runner.device, runner.work_dir)
        if runner.world_size > 1:
            _logger.info("%s", _processes(runner))
        with _noting_the_end():
            yield


@contextmanager
def _noting_the_end() -> Iterator[None]:
    """Logs the error that ended the run, to the file only: whoever catches the error prints it."""
    try:
        yield
    except EarlyExitError:
        raise
    except Exception as error:
        told = "; ".join(line.strip() for line in str(error).strip().splitlines()[:_MOST_LINES])
        name = "" if isinstance(error, FootplateError) else f"{type(error).__name__}: "
        _logger.error("ended by an error: %s%s", name, told, extra=NOT_SHOWN)
        raise


def name_idle_variables(cfg: Config) -> None:
    """Warns about settings without effect: variables changed after their last use, and keys of other engines."""
    idle = [*without_effect(cfg, READ_KEYS), *unread_overrides(cfg, READ_KEYS), *unsupported_conveniences(cfg)]
    for sentence in idle:
        _logger.warning("%s", sentence)


def _command() -> list[str]:
    """Returns the command line of this process, with `footplate` in place of the path of its own program."""
    program, *words = sys.argv or [""]
    is_ours = os.path.abspath(program) == os.path.join(_PACKAGE, "__main__.py")
    return ["footplate" if is_ours or os.path.basename(program) == "footplate" else program, *words]


def _processes(runner: "Runner") -> str:
    loader = getattr(runner.__dict__.get("train_loop"), "dataloader", None)
    size = getattr(loader, "batch_size", None)
    together = f", {size * runner.world_size} samples an iteration" if size else ""
    return f"{runner.world_size} processes{together}"
