"""Initializes the process group in processes started by a launcher."""

import atexit
import datetime
import os
import re
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from footplate.checks import check_choice, check_count, check_keys, is_number
from footplate.distributed.collectives import is_distributed
from footplate.error_context import at_key
from footplate.errors import ArgumentError, RankError
from footplate.launchers import LAUNCHERS, RANK_VARIABLES, VARIABLES
from footplate.messages import first_line

DIST_KEYS = ("backend", "timeout", "port", "init_backend")
# Gloo on the CPU is needed for Python objects and for background saves of checkpoints.
_GPU_BACKENDS = "cpu:gloo,cuda:nccl"
_DEFAULT_PORT = 29500
_LAST_RELEASES = 0.1  # in seconds
_RELEASES = 0.002  # in seconds
_FIRST_SLURM_PORT, _SLURM_PORTS = 15000, 15000  # below the ephemeral port range of Linux


class RankInfo(NamedTuple):
    """The rank of a process and the address of rank 0."""

    rank: int  # the rank
    world_size: int  # the number of ranks
    local_rank: int  # the rank among the processes on the same machine
    address: str  # the host name or IP address of rank 0
    port: int  # the port of rank 0

    def export(self) -> None:
        """Sets the environment variables that torchrun sets."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        os.environ.update({name: str(value) for name, value in zip(names, self, strict=True)})


def initialize(launcher: str = "none", dist_cfg: Mapping[str, Any] | None = None) -> bool:
    """Initializes the process group if necessary. Call this function before anything uses an accelerator.

    Args:
        launcher: "pytorch" (torchrun), "slurm" (srun), "mpi" (mpirun) or "none", which also detects torchrun.
        dist_cfg: A dict with `backend` (by default nccl with GPUs, otherwise gloo), `timeout` (of collectives, in
            seconds) and `port` (of rank 0, for srun and mpirun).

    Returns:
        Whether this call initialized the process group.

    Raises:
        ArgumentError: The launcher is unknown or did not start this process, or a setting is invalid.
        RankError: The ranks could not connect, or the backend is invalid.
    """
    with at_key("env_cfg.dist_cfg"):
        settings = check_dist_cfg(dist_cfg or {})
    launcher = active_launcher(launcher)
    info = None if is_distributed() else find_rank_info(launcher, settings.get("port"))
    if info is None:
        return False
    info.export()
    backend, device = _choose_device(info, settings.get("backend"), launcher)
    timeout = settings.get("timeout")
    if device is not None:
        torch.cuda.set_device(device)
    try:
        limits = {} if timeout is None else {"timeout": timeout}
        store, rank, size = next(rendezvous("env://", **limits))
        # The store survives a restart by torchrun, along with the addresses of processes that no longer exist.
        store = PrefixStore(f"footplate/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        atexit.register(_leave)
    except (RuntimeError, ValueError) as error:
        raise RankError(
            f"rank {info.rank} of {info.world_size} on {socket.gethostname()} could not initialize the "
            f"process group at {info.address}:{info.port}",
            notes=[
                first_line(error),
                "Check that all processes have started, that the address belongs to rank 0, and that its port is free "
                "and reachable.",
            ],
        ) from error
    return True


def check_dist_cfg(dist_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Checks `dist_cfg` and returns a copy in which `timeout` is a timedelta.

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
    """
    if not isinstance(dist_cfg, Mapping):
        raise ArgumentError("dist_cfg must be a dict", found=dist_cfg)
    settings = dict(dist_cfg)
    check_keys("dist_cfg", settings, DIST_KEYS)
    port = settings.get("port")
    timeout = settings.get("timeout")
    if settings.get("init_backend", "torch") != "torch":
        raise ArgumentError("init_backend must be 'torch'", key="init_backend", found=settings["init_backend"])
    if port is not None:
        check_count("port", port, most=(1 << 16) - 1)
    if is_number(timeout) and 0 < timeout < 1e9:
        settings["timeout"] = datetime.timedelta(seconds=float(timeout))
    elif timeout is not None and not isinstance(timeout, datetime.timedelta):
        raise ArgumentError("timeout must be a positive number of seconds below 1e9", key="timeout", found=timeout)
    return settings


def find_rank_info(launcher: str, port: int | None = None) -> RankInfo | None:
    """Returns the rank information from the launcher, or None if no launcher is active.

    Args:
        launcher: See `initialize`.
        port: The port of rank 0, unless the environment variable MASTER_PORT is set. The default is derived from the
            job for srun, and is 29500 for other launchers.

    Raises:
        ArgumentError: The launcher is unknown, did not start this process, or does not provide the address of rank 0.
    """
    launcher = active_launcher(launcher)
    if launcher == "none":
        return None
    names = VARIABLES[launcher]
    rank = _number(launcher, names.ranks)
    size = _number(launcher, names.sizes)
    local_rank = _number(launcher, names.local_ranks, rank if launcher == "mpi" else 0)
    address = os.environ.get("MASTER_ADDR")
    if launcher == "slurm":
        address = address or first_host(_variable(names.nodes) or "")
        job = _number(launcher, ("SLURM_JOB_ID",), 0) + 97 * _number(launcher, ("SLURM_STEP_ID",), 0)
        port = port or _FIRST_SLURM_PORT + job % _SLURM_PORTS
    elif launcher == "pytorch" or _number(launcher, names.local_sizes, 0) == size:  # all ranks are on the same machine
        address = address or "127.0.0.1"
    if not address:
        raise ArgumentError(
            f"launcher '{launcher}' does not provide the address of rank 0",
            key="launcher",
            notes=["Set MASTER_ADDR to the host name of rank 0's machine, for example with mpirun -x."],
        )
    return RankInfo(rank, size, local_rank, address, _number(launcher, ("MASTER_PORT",), port or _DEFAULT_PORT))


def _leave() -> None:
    """Destroys the process group, and gives its threads time to release the tensors of the last collectives.

    Releasing them needs the GIL, and a thread that requests the GIL during interpreter exit aborts the process. The
    threads cannot be ended explicitly, because wrapped and sharded models keep the group alive.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    time.sleep(_LAST_RELEASES)


def _let_threads_finish() -> None:
    """Waits until no thread holds the lock that CPython needs to create thread states.

    A process that is forked while the lock is held, such as a data loader's worker, blocks forever. Before Python 3.12,
    a thread that starts to use Python needs this lock. Gloo's threads do so to release the tensors of a collective that
    has just ended.
    """
    if is_distributed():
        time.sleep(_RELEASES)
        sys._current_frames()  # acquires and releases the lock


if sys.version_info < (3, 12) and hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_let_threads_finish)


def active_launcher(launcher: str) -> str:
    """Returns "pytorch" if `launcher` is "none" and torchrun started this process; otherwise, returns `launcher`.

    Raises:
        ArgumentError: The launcher is unknown.
    """
    with at_key("launcher"):
        check_launcher(launcher)
    names = VARIABLES["pytorch"]
    is_torchrun = all(name in os.environ for name in (*names.ranks, *names.sizes, *names.local_ranks))
    return "pytorch" if launcher == "none" and is_torchrun else launcher


def ignored_launcher() -> str:
    """Returns the launcher if it started several processes but there is no process group, or "" otherwise."""
    if is_distributed():
        return ""
    # `srun --mpi=pmi2` sets PMI_RANK as well, and Open MPI's mpirun uses srun to start its daemons.
    for launcher in VARIABLES if "OMPI_COMM_WORLD_RANK" in os.environ else ("pytorch", "slurm", "mpi"):
        names = VARIABLES[launcher]
        sizes = tuple(name for name in names.sizes if name != "SLURM_NTASKS")  # also set in a job script without srun
        if _variable(names.ranks) and _variable(sizes) not in (None, "", "1"):
            return launcher
    return ""


def check_launcher(launcher: str) -> None:
    """Raises an ArgumentError if the launcher is unknown."""
    check_choice("launcher", launcher, LAUNCHERS, key="")


def rank_from_environment() -> int:
    """Returns the rank assigned by a launcher, or 0 without a launcher. Does not need a process group."""
    return next((int(os.environ[name]) for name in RANK_VARIABLES if os.environ.get(name, "").isdigit()), 0)


def first_host(nodes: str) -> str:
    """Returns the first host name in a SLURM node list.

    >>> first_host("gpu[007-009,12],login")
    'gpu007'
    """
    first = re.split(r",(?![^\[]*\])", nodes.strip())[0]  # splits at commas outside brackets
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first)


def _variable(names: tuple[str, ...]) -> str | None:
    """Returns the value of the first environment variable in `names` that is set, or None if none is set."""
    return next((os.environ[name] for name in names if name in os.environ), None)


def _number(launcher: str, names: tuple[str, ...], default: int | None = None) -> int:
    """Returns the integer value of the first environment variable in `names` that is set, or else `default`.

    Raises:
        ArgumentError: No variable is set, and there is no default.
    """
    text = _variable(names) or default
    if text is None:
        message = f"launcher '{launcher}' needs {VARIABLES[launcher].starters} to start the processes"
        raise ArgumentError(message, key="launcher", notes=[f"Not set in the environment: {', '.join(names)}."])
    return int(text)


def _choose_device(info: RankInfo, wanted: str | None, launcher: str) -> tuple[str, int | None]:
    """Returns the backend and GPU index for a rank. The index is None if there are no GPUs.

    On machines without GPUs, Gloo replaces NCCL, so that the same config works. With srun and mpirun, each process may
    see only its own GPU, so the index is the local rank modulo the number of visible GPUs.
    """
    if not torch.cuda.is_available():
        backend = "gloo" if wanted is None or "nccl" in wanted else wanted
        return backend, None
    backend = _GPU_BACKENDS if wanted in (None, "nccl") else str(wanted)
    count = torch.cuda.device_count()
    sees_all_devices = launcher == "pytorch" or count > 1
    if sees_all_devices and "nccl" in backend and info.local_rank >= count:
        raise ArgumentError(
            f"rank {info.rank} on {socket.gethostname()} has no device of its own",
            key="launcher",
            notes=[
                f"This process has local rank {info.local_rank}, but the number of visible devices is {count}.",
                "Start at most one process per device.",
            ],
        )
    return backend, info.local_rank % count
