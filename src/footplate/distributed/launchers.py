"""Reads rank, world size and the address of rank 0 from the environment that a launcher sets."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from footplate.errors import ArgumentError
from footplate.messages import nearest

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
_FIRST_PORT, _PORTS = 15000, 15000  # below the ephemeral ports of Linux
_SLURM_NODES = ("SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST")
_MPI_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")
_MPI_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PALS_LOCAL_RANKID", "SLURM_LOCALID")
_MPI_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
_SET_ADDRESS = "set MASTER_ADDR to the machine of rank 0"
_BRACKETS = re.compile(r"^(?P<prefix>[^\[\],]*)\[(?P<numbers>[^\[\]]*)\](?P<suffix>[^\[\],]*)$")


class RankInfo(NamedTuple):
    """The rank of a process and the address of rank 0.

    Attributes:
        rank: The rank.
        world_size: The number of ranks.
        local_rank: The rank among the processes on the same machine.
        address: The host name or IP address of rank 0.
        port: The port of rank 0.
    """

    rank: int
    world_size: int
    local_rank: int
    address: str
    port: int

    def export(self) -> None:
        """Sets the environment variables that torchrun sets."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        os.environ.update({name: str(value) for name, value in zip(names, self, strict=True)})


def find_rank_info(launcher: str, port: int | None = None) -> RankInfo | None:
    """Returns the rank information that a launcher provides; None for "none".

    Args:
        launcher: "pytorch" (torchrun), "slurm" (srun), "mpi" (mpirun, mpiexec) or "none".
        port: The port of rank 0, if the launcher does not set it.

    Raises:
        ArgumentError: The launcher is unknown or did not start this process.
    """
    check_launcher(launcher)
    return _FINDERS[launcher](port) if launcher in _FINDERS else None


def check_launcher(launcher: str) -> None:
    """Checks the name of a launcher.

    Raises:
        ArgumentError: The launcher is unknown.
    """
    if launcher not in LAUNCHERS:
        raise ArgumentError(f"unknown launcher '{launcher}'", key="launcher", suggestion=nearest(launcher, LAUNCHERS))


def rank_from_environment() -> int:
    """Returns the rank that a launcher assigned, or 0. Works without a process group."""
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def first_host(nodes: str) -> str:
    """Returns the first host name in a SLURM node list.

    >>> first_host("gpu[007-009,12],login")
    'gpu007'
    """
    first = re.split(r",(?![^\[]*\])", nodes.strip())[0]  # at commas outside brackets
    found = _BRACKETS.match(first)
    if found:
        return f"{found['prefix']}{found['numbers'].split(',')[0].split('-')[0]}{found['suffix']}"
    if "[" not in first:
        return first
    if shutil.which("scontrol") is None:
        raise ArgumentError("cannot find the first machine in SLURM_NODELIST", found=nodes, notes=[_SET_ADDRESS])
    output = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return output.stdout.split()[0]


def _pytorch(port: int | None) -> RankInfo:
    env = os.environ
    if "RANK" not in env:
        raise ArgumentError("launcher 'pytorch' needs torchrun to start the processes", key="launcher")
    found = {name: _number(env, name, "pytorch") for name in ("RANK", "WORLD_SIZE")}
    address, port = env.get("MASTER_ADDR", "127.0.0.1"), _number(env, "MASTER_PORT", "pytorch", port or 29500)
    return RankInfo(found["RANK"], found["WORLD_SIZE"], _number(env, "LOCAL_RANK", "pytorch", 0), address, port)


def _slurm(port: int | None) -> RankInfo:
    env = os.environ
    if "SLURM_PROCID" not in env:
        raise ArgumentError("launcher 'slurm' needs srun to start the processes", key="launcher")
    size = _number(env, _first_of(env, ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), "slurm"), "slurm")
    address = env.get("MASTER_ADDR")
    if address is None:
        address = first_host(env[_first_of(env, _SLURM_NODES, "slurm")])
    job = _number(env, "SLURM_JOB_ID", "slurm", 0) + 97 * _number(env, "SLURM_STEP_ID", "slurm", 0)
    port = _number(env, "MASTER_PORT", "slurm", port or _FIRST_PORT + job % _PORTS)
    return RankInfo(
        _number(env, "SLURM_PROCID", "slurm"), size, _number(env, "SLURM_LOCALID", "slurm", 0), address, port
    )


def _mpi(port: int | None) -> RankInfo:
    env = os.environ
    if not any(name in env for name in _MPI_RANKS):
        raise ArgumentError("launcher 'mpi' needs mpirun or mpiexec to start the processes", key="launcher")
    rank, size = (_number(env, _first_of(env, names, "mpi"), "mpi") for names in (_MPI_RANKS, _MPI_SIZES))
    local = next((_number(env, name, "mpi") for name in _MPI_LOCAL_RANKS if name in env), rank)
    local_size = next((_number(env, name, "mpi") for name in _MPI_LOCAL_SIZES if name in env), None)
    address = env.get("MASTER_ADDR") or ("127.0.0.1" if local_size == size else None)
    if address is None:
        raise ArgumentError(
            "launcher 'mpi' does not provide the address of rank 0",
            key="launcher",
            notes=[f"{_SET_ADDRESS}, for example with mpirun -x"],
        )
    return RankInfo(rank, size, local, address, _number(env, "MASTER_PORT", "mpi", port or 29500))


_FINDERS: Mapping[str, Callable[[int | None], RankInfo]] = {"pytorch": _pytorch, "slurm": _slurm, "mpi": _mpi}


def _first_of(env: Mapping[str, str], names: Sequence[str], launcher: str) -> str:
    for name in names:
        if name in env:
            return name
    raise ArgumentError(f"launcher '{launcher}' did not set {names[0]} in the environment", key="launcher")


def _number(env: Mapping[str, str], name: str, launcher: str, default: int | None = None) -> int:
    text = env.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.strip().isdigit():
        raise ArgumentError(f"launcher '{launcher}' needs a number in {name}", key="launcher", found=text)
    return int(text)
