"""Initializes the process group for processes that a launcher started."""

import datetime
import os
import socket
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from footplate.checks import check_keys
from footplate.distributed.launchers import RankInfo, find_rank_info
from footplate.errors import ArgumentError, RankError

_KEYS = ("backend", "timeout", "port", "init_backend")
# Gloo on the CPU is needed for Python objects and for checkpoints that are saved in the background.
_GPU_BACKENDS = "cpu:gloo,cuda:nccl"


def initialize(launcher: str = "none", dist_cfg: Mapping[str, Any] | None = None) -> None:
    """Initializes the process group. Call it before anything uses an accelerator.

    Args:
        launcher: "pytorch" (torchrun), "slurm" (srun), "mpi" (mpirun) or "none".
        dist_cfg: `backend` (by default nccl with GPUs, otherwise gloo), `timeout` of collectives in seconds, and
            `port` of rank 0 for srun and mpirun.

    Raises:
        ArgumentError: The launcher is unknown or did not start this process, or a setting is invalid.
        RankError: The ranks could not connect.
    """
    settings = check_dist_cfg(dist_cfg or {})
    if launcher != "none" and dist.is_available() and dist.is_initialized():
        return
    info = find_rank_info(launcher, settings.get("port"))
    if info is None:
        return
    info.export()
    backend = _choose_backend(settings.get("backend"))
    if torch.cuda.is_available():
        torch.cuda.set_device(_choose_device(info, backend, launcher))
    _join(info, backend, settings.get("timeout"))


def collective_timeout(dist_cfg: Mapping[str, Any] | None) -> float | None:
    """Returns the timeout of collectives in seconds, or None for PyTorch's default."""
    timeout = check_dist_cfg(dist_cfg or {}).get("timeout")
    return None if timeout is None else timeout.total_seconds()


def check_dist_cfg(dist_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the settings and returns them with `timeout` as a timedelta.

    Raises:
        ArgumentError: A key or value is unknown.
    """
    if not isinstance(dist_cfg, Mapping):
        raise ArgumentError("dist_cfg must be a dict", key="env_cfg.dist_cfg", found=dist_cfg)
    settings = dict(dist_cfg)
    if not isinstance(settings.get("backend"), (str, type(None))):
        raise ArgumentError("a backend must be a string", key="env_cfg.dist_cfg.backend", found=settings["backend"])
    check_keys("dist_cfg", settings, _KEYS, prefix="env_cfg.dist_cfg.")
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
    """Returns the backend. NCCL becomes gloo on machines without GPUs, so that configs work on both."""
    if not torch.cuda.is_available():
        return "gloo" if wanted is None or "nccl" in wanted else wanted
    return _GPU_BACKENDS if wanted in (None, "nccl") else str(wanted)


def _choose_device(info: RankInfo, backend: str, launcher: str) -> int:
    """Returns the device index of a rank. With srun and mpirun, each process may see only its own device."""
    count = torch.cuda.device_count()
    if "nccl" in backend and info.local_rank >= count and (launcher == "pytorch" or count > 1):
        raise ArgumentError(
            f"rank {info.rank} on {socket.gethostname()} has no device of its own",
            key="launcher",
            notes=[f"local rank {info.local_rank}, devices: {count}; start at most one process per device"],
        )
    return info.local_rank % count


def _join(info: RankInfo, backend: str, timeout: datetime.timedelta | None) -> None:
    try:
        timeout_setting: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        store, rank, size = next(rendezvous("env://", **timeout_setting))
        # The store survives a restart by torchrun, including addresses of processes that are gone.
        store = PrefixStore(f"footplate/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().split("\n", 1)[0]
        raise RankError(
            f"rank {info.rank} on {socket.gethostname()} could not connect to the {info.world_size} ranks "
            f"at {info.address}:{info.port}",
            notes=[first, "check that the address is that of rank 0, and its port is free and reachable"],
        ) from error
