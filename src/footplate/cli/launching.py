"""Detects launchers, starts the processes of a distributed run, and reports the errors of its ranks."""

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import traceback
import uuid
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from footplate.cli.arguments import Parser, add_cpu, number
from footplate.cli.output import DOCUMENT_FILE, print_error, print_json
from footplate.errors import ArgumentError
from footplate.interrupts import SIGNALED
from footplate.launchers import LAUNCHERS, RANK_VARIABLES

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

_WITH_RESULT = (0, 4, 129, 130, 143)  # exit codes of ranks that have finished or were stopped


def add_launcher(parser: Parser) -> None:
    """Adds the options for launchers and processes to the parser."""
    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        help="how processes start: none, pytorch (torchrun; detected automatically), slurm (srun) or mpi (mpirun)",
    )
    add_processes(parser)


def add_processes(parser: Parser) -> None:
    """Adds the options for the device and the processes to the parser."""
    parser.add_value("--nproc", "N", "start N processes on this machine with torchrun; 'gpu' starts one per device")
    parser.add_value(
        "--max-restarts",
        "N",
        "with --nproc: the number of restarts after a failure (default: 0)",
        type=number(int, 0),
        default=0,
    )
    add_cpu(parser)


def is_first_rank() -> bool:
    """Checks, without importing torch, whether this is the first (or only) process of a run."""
    return all(os.environ.get(name, "0") == "0" for name in RANK_VARIABLES)


def start_processes(arguments: Namespace) -> int | None:
    """Checks the config and runs this command in several processes if `--nproc` is given.

    Returns:
        None if this process must run the command itself. Otherwise, the result of `run_in_processes`.

    Raises:
        FootplateError: The config is invalid.
        ArgumentError: `--nproc` or `--max-restarts` is invalid.
    """
    from footplate.engine.control.hook_list import build_hooks
    from footplate.engine.control.run_folder import folders_of
    from footplate.engine.plan.plan import RunPlan
    from footplate.tools.collected_warnings import collect_warnings

    processes = count_processes(arguments)
    if processes is None:
        return None
    home = folders_of(arguments.cfg["work_dir"])[0] if hasattr(arguments, "resume") else None
    with collect_warnings():  # the first rank logs them
        plan = RunPlan.from_config(arguments.cfg)
        plan.check()
        build_hooks(plan["default_hooks"], plan["custom_hooks"])
    arguments.held_warnings = ()
    return run_in_processes(arguments, processes, home)


def count_processes(arguments: Namespace) -> int | None:
    """Returns the number of processes to start for `--nproc`, or None if this process runs the command itself.

    Raises:
        ArgumentError: `--nproc` or `--max-restarts` is invalid.
    """
    if arguments.nproc is None and arguments.max_restarts:
        raise ArgumentError("--max-restarts needs --nproc", key="--max-restarts", found=arguments.max_restarts)
    if arguments.nproc is None or "LOCAL_RANK" in os.environ:
        return None
    import torch

    if arguments.nproc == "gpu" and torch.accelerator.is_available():
        return torch.accelerator.device_count()
    if arguments.nproc.isdigit() and int(arguments.nproc):
        return int(arguments.nproc)
    raise ArgumentError(
        "--nproc must be a positive integer"
        + (", because torch finds no accelerator here" if arguments.nproc == "gpu" else " or 'gpu'"),
        key="--nproc",
        found=arguments.nproc,
    )


def run_in_processes(arguments: Namespace, processes: int, home: str | None = None) -> int:
    """Runs this command in several processes.

    Args:
        arguments: The arguments of the command.
        processes: The number of processes.
        home: The run's checkpoint folder, if the run can be resumed.

    Returns:
        0 if all processes succeeded, the exit code of the process that failed first, or 128 plus the signal number if a
        signal ended the processes.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")  # a rank that crashes prints its stack
    with tempfile.TemporaryDirectory() as folder:
        path = os.environ[DOCUMENT_FILE] = os.path.join(folder, "document.json")
        command = ["-m", "footplate", *arguments.argv]
        code, document = _torchrun(processes, arguments.max_restarts, command, home)
        del os.environ[DOCUMENT_FILE]
        if document is None and arguments.json:
            document = json.loads(Path(path).read_text("utf-8"))
    if arguments.json:
        print_json(arguments, document)
    return code


def _torchrun(
    processes: int, restarts: int, argv: Sequence[str], home: str | None
) -> tuple[int, dict[str, Any] | None]:
    """Runs Python with the given arguments in several processes, like `torchrun --standalone`.

    Prints the error of the rank that failed first; see `_report_failure`. Passes SIGUSR1 on to the first rank.

    Returns:
        The exit code, and the error as data. The error is None if the ranks finished, or were stopped
        by SIGHUP, SIGINT or SIGTERM.
    """
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api

    class Agent(LocalElasticAgent):
        def _start_workers(self, worker_group: Any) -> Any:
            if not hasattr(signal, "SIGUSR1"):  # on Windows
                return super()._start_workers(worker_group)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # inherited by the ranks, until they can save
            ranks = super()._start_workers(worker_group)

            def pass_on(number: int, frame: Any) -> None:
                with contextlib.suppress(ProcessLookupError):  # the rank has ended
                    os.kill(ranks[0], number)

            signal.signal(signal.SIGUSR1, pass_on)
            return ranks

        def _monitor_workers(self, worker_group: Any) -> Any:
            result = super()._monitor_workers(worker_group)
            if result.is_failed() and self._remaining_restarts > 0:
                error = ChildFailedError("", result.failures)
                if "document" not in error.get_first_failure()[1].error_file_data:  # otherwise, the rank has printed it
                    _report_failure(error, None)
            return result

    config = api.LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
    )
    logging.disable(logging.CRITICAL)  # torchrun would log each failure again
    api.LocalElasticAgent = Agent  # type: ignore[attr-defined]
    try:
        api.elastic_launch(config, sys.executable)("-u", *argv)
    except SignalException as error:
        return SIGNALED + int(error.sigval), None
    except ChildFailedError as error:
        return _report_failure(error, home)
    finally:
        logging.disable(logging.NOTSET)
    return 0, None


def _report_failure(error: "ChildFailedError", home: str | None) -> tuple[int, dict[str, Any] | None]:
    """Prints the error of the rank that failed first.

    If the rank reported no error, prints its exit code or signal, and the last checkpoint in `home`.

    Returns:
        The exit code, and the error as data, or None if the rank has finished or was stopped by a signal.
    """
    from footplate.checkpoint.run_checkpoints import read_pointer

    rank, first = error.get_first_failure()
    code = int(first.exitcode if first.exitcode >= 0 else SIGNALED - first.exitcode)
    recorded = first.error_file_data.get("document")
    if recorded is not None:
        print_error(first.error_file_data["message"]["message"])
        return code, {"error": recorded}
    if code in _WITH_RESULT:
        return code, None
    end = f"was killed by {first.signal_name()}" if first.exitcode < 0 else f"exited with code {code}"
    message, last = f"rank {rank} (process {first.pid}) {end}", read_pointer(home) if home else None
    notes = []
    if first.exitcode == -signal.SIGKILL:
        notes.append("If no one sent SIGKILL, the system probably ran out of memory: see dmesg.")
    if last:
        notes.append(f"The last checkpoint is {last}. Use --resume to continue from it.")
    print_error("\n  ".join([f"error: {message}", *notes]) + "\n")
    return code, {"error": {"type": "RankError", "message": message, "notes": notes, "exit_code": code}}


def end_rank(arguments: Namespace, error: Exception) -> int:
    """Reports a rank's error and returns the exit code. If other ranks are connected, exits the process immediately.

    With `--nproc`, the parent process prints the error, unless it restarts the ranks.
    """
    from footplate.cli.error_messages import describe_error, error_as_data
    from footplate.distributed import await_cause, get_rank, get_world_size, record_error
    from footplate.tools.key_equivalents import restore_key

    error, progress = await_cause(error), arguments.progress
    restore_key(error, arguments.cfg)
    described = describe_error(error, progress, option=arguments.debug_option)
    message, code = described or ("".join(traceback.format_exception(error)), 1)
    document = {**error_as_data(error, message, code), "rank": get_rank()}
    if get_world_size() > 1:
        message = f"error: rank {get_rank()}: {message.removeprefix('error: ')}"
    if progress not in message:
        message += f"  {progress}\n"
    record_error(message, document)
    if arguments.debug:
        print_error("".join(traceback.format_exception(error)))
    count, maximum = (os.environ.get(f"TORCHELASTIC_{name}", "0") for name in ("RESTART_COUNT", "MAX_RESTARTS"))
    if arguments.document_file is None or count != maximum:
        print_error(message)
        if arguments.json:
            print_json(arguments, {"error": document})
    sys.stdout.flush()
    sys.stderr.flush()
    if get_world_size() > 1:
        os._exit(code)  # a normal exit may take seconds, and there is nothing left to clean up
    return code
