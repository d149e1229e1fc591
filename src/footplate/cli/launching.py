"""Detects launchers, starts the processes of a distributed run, and runs a command as one of its ranks."""

import argparse
import json
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from footplate.cli.output import DOCUMENT_FILE, print_error, print_json, wants_json
from footplate.interrupts import RANK_VARIABLES, SIGNALED, is_launched

if TYPE_CHECKING:
    from footplate.config import Config

_LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
_WITH_RESULT = (0, 4, 129, 130, 143)  # exit codes of ranks that have finished or were stopped
_AFTER_FIRST_RANK = 2.0  # seconds that a launcher needs to stop the other processes after the first rank has failed


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Adds the options for launchers and processes to the parser."""
    parser.add_argument(
        "--launcher",
        choices=_LAUNCHERS,
        help="the launcher of the processes: pytorch (torchrun, detected automatically), slurm (srun) or mpi (mpirun)",
    )
    parser.add_argument(
        "--nproc", metavar="N", help="start N processes on this machine with torchrun; gpu starts one per device"
    )
    parser.add_argument(
        "--max-restarts",
        metavar="N",
        type=int,
        default=0,
        help="with --nproc: the number of restarts after a failure (default: 0)",
    )
    # The predecessor of torchrun passes this option; torchrun sets an environment variable instead.
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)


def set_launcher(arguments: argparse.Namespace, cfg: "Config") -> None:
    """Sets the launcher in the config. Torchrun is detected by its environment variables."""
    if arguments.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(arguments.local_rank))
    if arguments.launcher is not None:
        cfg["launcher"] = arguments.launcher
    elif "LOCAL_RANK" in os.environ and cfg.get("launcher") in (None, "none"):
        cfg["launcher"] = "pytorch"


def is_first_rank() -> bool:
    """Checks whether this is the first or the only process of a run, without importing torch."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)


def start_processes(arguments: argparse.Namespace, cfg: "Config") -> int | None:
    """Sets the launcher in the config. With `--nproc`, checks the config and runs this command in several processes.

    Returns:
        None if this process must run the command itself. Otherwise, the exit code of the process that failed first, or
        130 or 143 if a signal ended the processes.

    Raises:
        ConfigError: The config is invalid.
        ArgumentError: `--nproc` or `--max-restarts` is invalid.
    """
    from footplate.errors import ArgumentError

    set_launcher(arguments, cfg)
    if arguments.nproc is None and arguments.max_restarts:
        raise ArgumentError("--max-restarts needs --nproc", key="--max-restarts", found=arguments.max_restarts)
    if arguments.nproc is None or "LOCAL_RANK" in os.environ:
        return None
    import torch

    from footplate.checks import check_count
    from footplate.engine.run_config import check_config
    from footplate.records.logger import collect_warnings
    from footplate.tools.automatic_batch_size import without_automatic_size

    check_count("--max-restarts", arguments.max_restarts, least=0)
    if arguments.nproc == "gpu" and torch.accelerator.is_available():
        processes = torch.accelerator.device_count()
    elif arguments.nproc.isdigit() and int(arguments.nproc):
        processes = int(arguments.nproc)
    else:
        raise ArgumentError(
            "--nproc must be the number of processes, or 'gpu' on a machine with accelerators",
            key="--nproc",
            found=arguments.nproc,
        )
    with collect_warnings():  # the first rank logs them
        check_config(without_automatic_size(cfg))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    words = ["-m", "footplate", *arguments.argv]
    if not wants_json(arguments):
        return _torchrun(processes, arguments.max_restarts, words)[0]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.environ[DOCUMENT_FILE] = os.path.join(folder, "document.json")
        code, problem = _torchrun(processes, arguments.max_restarts, words)
        del os.environ[DOCUMENT_FILE]
        try:
            document = json.loads(Path(path).read_text("utf-8"))
            # The document and the exit code differ if another rank failed after rank 0 had written the document.
            is_consistent = document["error"]["exit_code"] == code if "error" in document else code in _WITH_RESULT
        except (OSError, ValueError):  # rank 0 died before or while writing
            is_consistent = False
    if not is_consistent:
        notes = ["The cause is in the output on standard error."]
        document = {"error": {"type": "RankError", "message": problem, "notes": notes, "exit_code": code}}
    print_json(arguments, document)
    return code


def _torchrun(processes: int, restarts: int, argv: Sequence[str]) -> tuple[int, str]:
    """Runs Python with these arguments in several processes, like `torchrun --standalone`.

    Returns:
        The exit code and, if it is not 0, a description of the failure.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
    )
    numbers = [getattr(signal, name) for name in config.signals_to_handle.split(",") if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    logging.disable(logging.CRITICAL)  # the ranks report errors
    try:
        elastic_launch(config, sys.executable)("-u", *argv)
    except SignalException as error:
        return SIGNALED + int(error.sigval), f"interrupted by {signal.Signals(error.sigval).name}"
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        if first.exitcode > 0:
            return int(first.exitcode), f"rank {rank} (process {first.pid}) failed with exit code {first.exitcode}"
        code, problem = SIGNALED - int(first.exitcode), f"rank {rank} (process {first.pid}) was killed"
        problem = f"{problem} by {first.signal_name()}"
        if all(failure.exitcode != code for failure in error.failures.values()):  # no process has reported it
            print_error(f"error: {problem}\n")
        return code, problem
    finally:
        logging.disable(logging.NOTSET)
        for number, handler in handlers.items():
            if signal.getsignal(number) != handler:  # torchrun does not restore it
                signal.signal(number, handler)
    return 0, ""


def run_as_rank(
    command: Callable[[], int], on_failure: Callable[[BaseException, int], None], *, quiet: bool = True
) -> int:
    """Runs a command and returns its result. An error on one of several ranks ends the processes of all ranks.

    Args:
        command: The function that runs the command.
        on_failure: Called with an error that the ranks have reported, and with the exit code.
        quiet: Whether to suppress such an error.
    """
    try:
        return command()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if not is_launched():
            raise
        code, reported = None, error
        if "footplate.engine" in sys.modules:
            from footplate.engine.rank_failures import report_failure
            from footplate.errors import FootplateError

            try:
                code = report_failure(error)
            except FootplateError as other:
                code, reported = other.exit_code, other
        if code is None:
            from footplate.distributed import get_world_size, rank_from_environment

            # Before the ranks are connected, all ranks raise the same error. Only the first rank should report it.
            if rank_from_environment() and get_world_size() == 1:
                sys.stdout.flush()
                time.sleep(_AFTER_FIRST_RANK)
        if code is None or not quiet:
            raise
        on_failure(reported, code)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # a normal exit may take seconds, and there is nothing left to clean up
