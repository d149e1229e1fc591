"""Detects launchers, and starts the processes of a distributed run."""

import argparse
import logging
import os
import sys
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from footplate.cli.streams import say_error

if TYPE_CHECKING:
    from footplate.config import Config

_LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
_DIED = 128


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Adds the options for launchers and processes to the parser."""
    parser.add_argument(
        "--launcher", choices=_LAUNCHERS, help="who started the processes: torchrun (found by itself), srun, mpirun"
    )
    parser.add_argument(
        "--nproc", metavar="N", help="start N processes with torchrun on this machine; gpu: one a device"
    )
    parser.add_argument(
        "--max-restarts",
        metavar="N",
        type=int,
        default=0,
        help="with --nproc: how often to begin anew after a failure: 0",
    )
    # The predecessor of torchrun passes this option; torchrun sets an environment variable instead.
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)


def starts_processes(arguments: argparse.Namespace) -> bool:
    """Checks whether this command must start other processes that run it."""
    return arguments.nproc is not None and "LOCAL_RANK" not in os.environ


def choose_launcher(arguments: argparse.Namespace, cfg: "Config") -> None:
    """Sets the launcher in the config; detects torchrun by its environment variables."""
    if arguments.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(arguments.local_rank))
    if arguments.launcher is not None:
        cfg["launcher"] = arguments.launcher
    elif "LOCAL_RANK" in os.environ and cfg.get("launcher") in (None, "none"):
        cfg["launcher"] = "pytorch"


def refuse_launchers(command: str) -> None:
    """Raises an error if a command runs in several processes.

    Raises:
        ArgumentError: Torchrun started this process.
    """
    from footplate.errors import ArgumentError

    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ArgumentError(f"footplate {command} is one process: start it without torchrun")


def start_processes(arguments: argparse.Namespace, cfg: "Config") -> int:
    """Runs this command in several processes with torchrun, after checking the config once.

    Returns:
        The exit code of the process that failed first; 130 or 143 if a signal ended the processes.

    Raises:
        ConfigError: The config is invalid.
        ArgumentError: A number is invalid.
    """
    from footplate.checks import check_count
    from footplate.engine.sections import check_config
    from footplate.records.logger import collect_warnings

    check_count("--max-restarts", arguments.max_restarts, least=0)
    processes = _count_processes(arguments.nproc)
    with collect_warnings():  # the first rank logs them
        check_config(cfg)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return _torchrun(processes, arguments.max_restarts, ["-m", "footplate", *arguments.words])


def _count_processes(text: str) -> int:
    import torch

    from footplate.errors import ArgumentError

    if text == "gpu" and torch.accelerator.is_available():
        return torch.accelerator.device_count()
    if not text.isdigit() or not int(text):
        raise ArgumentError("--nproc is a number of processes, or gpu where there are any", key="--nproc", found=text)
    return int(text)


def _torchrun(processes: int, restarts: int, words: Sequence[str]) -> int:
    """Runs a command like `torchrun --standalone`."""
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
    logging.disable(logging.CRITICAL)  # the ranks report errors
    try:
        elastic_launch(config, sys.executable)("-u", *words)
    except SignalException as error:
        return _DIED + int(error.sigval)
    except ChildFailedError as error:
        return _code_of(error)
    finally:
        logging.disable(logging.NOTSET)
    return 0


def _code_of(error: Any) -> int:
    """Returns the exit code of the process that failed first; prints an error if the process could not report one."""
    rank, first = error.get_first_failure()
    codes = [failure.exitcode for failure in error.failures.values()]
    if first.exitcode > 0:
        return int(first.exitcode)
    if _DIED - first.exitcode not in codes:
        say_error(f"error: rank {rank} (process {first.pid}) was ended by {first.signal_name()}\n")
    return _DIED - int(first.exitcode)
