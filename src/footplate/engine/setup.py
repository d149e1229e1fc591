"""The process a run lives in: ranks, random generators, device, worker start method."""

import logging
import multiprocessing
import os
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from footplate import storage
from footplate.distributed import broadcast_object, get_rank, initialize, told_by_first
from footplate.engine.together import begin_watch
from footplate.errors import ArgumentError, nearest

_logger = logging.getLogger("footplate.engine")
_RANDOMNESS = ("seed", "deterministic", "diff_rank_seed")
_ENVIRONMENT = ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")


def prepare(env_cfg: Mapping[str, Any], *, launcher: str) -> None:
    """Joins the other processes and sets what has to be set before anything touches an accelerator.

    Args:
        env_cfg: `cudnn_benchmark`, `mp_cfg` (`mp_start_method`, `opencv_num_threads`), `dist_cfg` (`backend`,
            `timeout` in seconds, `port`), `resource_limit` (open files).
        launcher: "none", "pytorch", "slurm" or "mpi".

    Raises:
        ArgumentError: A key or value is unknown.
    """
    for key in env_cfg:
        if key not in _ENVIRONMENT:
            raise ArgumentError(f"env_cfg has no '{key}'", key=f"env_cfg.{key}", suggestion=nearest(key, _ENVIRONMENT))
    initialize(launcher, env_cfg.get("dist_cfg"))
    begin_watch(env_cfg.get("dist_cfg"))
    if env_cfg.get("cudnn_benchmark"):
        torch.backends.cudnn.benchmark = True
    if env_cfg.get("resource_limit"):
        _allow_open_files(env_cfg["resource_limit"])
    workers = env_cfg.get("mp_cfg") or {}
    method = workers.get("mp_start_method")
    if method is not None:
        if method not in multiprocessing.get_all_start_methods():
            raise ArgumentError("unknown start method of worker processes", key="env_cfg.mp_cfg", found=method)
        multiprocessing.set_start_method(method, force=True)
    if "opencv_num_threads" in workers:
        _limit_opencv(workers["opencv_num_threads"])


def seed_everything(randomness: Mapping[str, Any], *, resumed: Callable[[], int | None] = lambda: None) -> int:
    """Seeds every random generator.

    Args:
        randomness: `seed`, `deterministic`, `diff_rank_seed`.
        resumed: Tells the seed of the run that is gone on with, which counts where none is written. Where there is
            none either, one is drawn.

    Returns:
        The seed that all processes share.
    """
    for key in randomness:
        if key not in _RANDOMNESS:
            raise ArgumentError(
                f"randomness has no '{key}'", key=f"randomness.{key}", suggestion=nearest(key, _RANDOMNESS)
            )
    seed = randomness.get("seed")
    if seed is None:
        seed = told_by_first(resumed)
    if seed is None:
        seed = broadcast_object(int.from_bytes(os.urandom(4), "little") % (1 << 31))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 32:
        raise ArgumentError("a seed is a whole number from 0 to 2**32 - 1", key="randomness.seed", found=seed)
    own = (seed + get_rank()) % (1 << 32) if randomness.get("diff_rank_seed") else seed
    random.seed(own)
    np.random.seed(own)
    torch.manual_seed(own)
    if randomness.get("deterministic"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
    return seed


def pick_device() -> torch.device:
    """Returns the accelerator of this process, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def places_of(work_dir: str) -> tuple[str, str]:
    """Returns where a run's checkpoints and their pointer are at home, and the local folder of its logs and lock."""
    home = storage.absolute(work_dir)
    if storage.is_local(work_dir):
        return home, home
    return home.rstrip("/"), os.path.abspath(os.path.join("work_dirs", storage.base_name(home.rstrip("/"))))


def _allow_open_files(number: int) -> None:
    """Raises how many files this process may have open to `number`, as far as the system lets it."""
    try:
        import resource
    except ImportError:  # no such limit on this system
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, number), hard), hard))


def _limit_opencv(threads: int) -> None:
    try:
        import cv2  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return
    cv2.setNumThreads(threads)
