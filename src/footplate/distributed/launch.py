"""Joining the processes that torchrun started."""

import datetime
import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from footplate.errors import ArgumentError, nearest

_LAUNCHERS = ("none", "pytorch")


def initialize(launcher: str = "none", dist_cfg: Mapping[str, Any] | None = None) -> None:
    """Joins the group of processes that `launcher` started, before anything touches an accelerator.

    Args:
        launcher: "pytorch" (torchrun) or "none".
        dist_cfg: `backend` (nccl where there are accelerators, else gloo) and `timeout` in seconds.

    Raises:
        ArgumentError: The launcher is unknown, or did not leave the rank in the environment.
    """
    if launcher not in _LAUNCHERS:
        raise ArgumentError(f"unknown launcher '{launcher}'", key="launcher", suggestion=nearest(launcher, _LAUNCHERS))
    if launcher == "none" or (dist.is_available() and dist.is_initialized()):
        return
    if "RANK" not in os.environ:
        raise ArgumentError("launcher 'pytorch' needs torchrun to start the processes", key="launcher")
    settings = dict(dist_cfg or {})
    backend = settings.pop("backend", None)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    elif backend == "nccl":
        backend = None
    if "timeout" in settings:
        settings["timeout"] = datetime.timedelta(seconds=settings["timeout"])
    dist.init_process_group(backend or ("nccl" if torch.cuda.is_available() else "gloo"), **settings)
