"""Several processes for one command: who started them, and starting them."""

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
    """Adds what says who starts the processes."""
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
    # The launcher that came before torchrun gives it; torchrun leaves it in the environment.
    parser.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)


def starts_processes(arguments: argparse.Namespace) -> bool:
    """Checks whether this command is to start others in its place."""
    return arguments.nproc is not None and "LOCAL_RANK" not in os.environ


def choose_launcher(arguments: argparse.Namespace, cfg: "Config") -> None:
    """Puts into the config who started the processes; torchrun is seen in the environment."""
    if arguments.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(arguments.local_rank))
    if arguments.launcher is not None:
        cfg["launcher"] = arguments.launcher
    elif "LOCAL_RANK" in os.environ and cfg.get("launcher") in (None, "none"):
        cfg["launcher"] = "pytorch"


def refuse_launchers(command: str) -> None:
    """Refuses to run a command in several processes.

    Raises:
        ArgumentError: Torchrun has started this one.
    """
    from footplate.errors import ArgumentError

    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ArgumentError(f"footplate {command} is one process: start it without torchrun")


def start_processes(arguments: argparse.Namespace, cfg: "Config") -> int:
    """Has torchrun start this command in several processes, after what is wrong with the config is found once.

    Returns:
        The exit code: of the process that failed first; 130 or 143 where a signal ended them.

    Raises:
        ConfigError: The config cannot be used.
        ArgumentError: A number makes no sense.
    """
    from footplate.checks import check_count
    from footplate.engine.static import check_config
    from footplate.records.logger import collected_warnings

    check_count("--max-restarts", arguments.max_restarts, least=0)
    processes = _count_processes(arguments.nproc)
    with collected_warnings():  # the first rank tells of them
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
    """Does what `torchrun --standalone` does."""
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
    logging.disable(logging.CRITICAL)  # the ranks say what is wrong
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
    """The exit code of the process that failed first, after a word where no rank could have said one."""
    rank, first = error.get_first_failure()
    codes = [failure.exitcode for failure in error.failures.values()]
    if first.exitcode > 0:
        return int(first.exitcode)
    if _DIED - first.exitcode not in codes:
        say_error(f"error: rank {rank} (process {first.pid}) was ended by {first.signal_name()}\n")
    return _DIED - int(first.exitcode)
