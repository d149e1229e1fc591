"""Joining the processes that a launcher started."""

import datetime
import os
import socket
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from footplate.distributed.launchers import RankInfo, find_rank_info
from footplate.errors import ArgumentError, RankError
from footplate.messages import nearest

_SETTINGS = ("backend", "timeout", "port", "init_backend")
# The CPU takes part, for objects and for what is stored behind the training.
_OF_ACCELERATORS = "cpu:gloo,cuda:nccl"


def initialize(launcher: str = "none", dist_cfg: Mapping[str, Any] | None = None) -> None:
    """Joins the group of processes that `launcher` started, before anything touches an accelerator.

    Args:
        launcher: "pytorch" (torchrun), "slurm" (srun), "mpi" (mpirun) or "none".
        dist_cfg: `backend` (nccl where there are accelerators, else gloo), `timeout` of a collective in seconds and
            `port`, at which processes of srun and mpirun meet.

    Raises:
        ArgumentError: The launcher is unknown or did not start this process, or a setting makes no sense.
        RankError: The others did not come.
    """
    settings = check_dist_cfg(dist_cfg or {})
    if launcher != "none" and dist.is_available() and dist.is_initialized():
        return
    seat = find_rank_info(launcher, settings.get("port"))
    if seat is None:
        return
    seat.write()
    backend = _choose_backend(settings.get("backend"))
    if torch.cuda.is_available():
        torch.cuda.set_device(_choose_device(seat, backend, launcher))
    _join(seat, backend, settings.get("timeout"))


def collective_timeout(dist_cfg: Mapping[str, Any] | None) -> float | None:
    """Returns how many seconds a collective may wait, None where the config leaves that to PyTorch."""
    timeout = check_dist_cfg(dist_cfg or {}).get("timeout")
    return None if timeout is None else timeout.total_seconds()


def check_dist_cfg(dist_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings with their timeout as a span of time.

    Raises:
        ArgumentError: A key or value is unknown.
    """
    settings = dict(dist_cfg)
    for key in settings:
        if key not in _SETTINGS:
            place, near = f"env_cfg.dist_cfg.{key}", nearest(key, _SETTINGS)
            raise ArgumentError(f"dist_cfg has no '{key}'", key=place, suggestion=near)
    if settings.get("init_backend", "torch") != "torch":
        key, found = "env_cfg.dist_cfg.init_backend", settings["init_backend"]
        raise ArgumentError("init_backend must be 'torch'", key=key, found=found)
    port = settings.get("port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 1 << 16):
        raise ArgumentError("a port must be an integer from 1 to 65535", key="env_cfg.dist_cfg.port", found=port)
    timeout = settings.get("timeout")
    if isinstance(timeout, (int, float)) and not isinstance(timeout, bool) and 0 < timeout < 1e9:
        settings["timeout"] = datetime.timedelta(seconds=timeout)
    elif timeout is not None and not isinstance(timeout, datetime.timedelta):
        raise ArgumentError(
            "a timeout must be a positive number of seconds", key="env_cfg.dist_cfg.timeout", found=timeout
        )
    return settings


def _choose_backend(wanted: str | None) -> str:
    """A backend of accelerators becomes gloo where there are none: configs name the machine they were written on."""
    if not torch.cuda.is_available():
        return "gloo" if wanted is None or "nccl" in wanted else wanted
    return _OF_ACCELERATORS if wanted in (None, "nccl") else str(wanted)


def _choose_device(seat: RankInfo, backend: str, launcher: str) -> int:
    """One device a process; srun and mpirun may show each process its own alone."""
    there = torch.cuda.device_count()
    if "nccl" in backend and seat.local_rank >= there and (launcher == "pytorch" or there > 1):
        raise ArgumentError(
            f"rank {seat.rank} on {socket.gethostname()} has no device of its own",
            key="launcher",
            notes=[f"local rank {seat.local_rank}, devices: {there}; start no more processes than there are devices"],
        )
    return seat.local_rank % there


def _join(seat: RankInfo, backend: str, timeout: datetime.timedelta | None) -> None:
    try:
        patience: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        store, rank, size = next(rendezvous("env://", **patience))
        # The store outlives a restart by torchrun, and with it the addresses of processes that are gone.
        store = PrefixStore(f"footplate/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().split("\n", 1)[0]
        raise RankError(
            f"rank {seat.rank} on {socket.gethostname()} could not connect to the {seat.world_size} ranks "
            f"at {seat.address}:{seat.port}",
            notes=[
                first,
                "check that the address is that of rank 0, and its port is free and reachable",
            ],
        ) from error
