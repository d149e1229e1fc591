"""Sets up the process of a run: ranks, random generators, device, start method of workers."""

import itertools
import logging
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from footplate import storage
from footplate.checks import check_count, check_flag
from footplate.distributed import broadcast_object, check_dist_cfg, compute_on_main, get_rank, initialize
from footplate.engine.rank_failures import start_rank_monitor
from footplate.errors import ArgumentError
from footplate.messages import nearest

_logger = logging.getLogger("footplate.engine")
_RANDOMNESS = ("seed", "deterministic", "diff_rank_seed")
_ENVIRONMENT = ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")
_WORKERS = ("mp_start_method", "opencv_num_threads")


def prepare(env_cfg: Mapping[str, Any], *, launcher: str) -> None:
    """Initializes distributed training, and whatever must be set before anything uses an accelerator.

    Args:
        env_cfg: `cudnn_benchmark`, `mp_cfg` (`mp_start_method`, `opencv_num_threads`), `dist_cfg` (`backend`,
            `timeout` in seconds, `port`), `resource_limit` (number of open files).
        launcher: "none", "pytorch", "slurm" or "mpi".

    Raises:
        ArgumentError: A key or value is unknown.
    """
    check_environment(env_cfg)
    initialize(launcher, env_cfg.get("dist_cfg"))
    start_rank_monitor(env_cfg.get("dist_cfg"))
    if env_cfg.get("cudnn_benchmark"):
        torch.backends.cudnn.benchmark = True
    if env_cfg.get("resource_limit"):
        _allow_open_files(env_cfg["resource_limit"])
    workers = env_cfg.get("mp_cfg") or {}
    method = workers.get("mp_start_method")
    if method is not None:
        multiprocessing.set_start_method(method, force=True)
    if "opencv_num_threads" in workers:
        _limit_opencv(workers["opencv_num_threads"])


def check_environment(env_cfg: Mapping[str, Any]) -> None:
    """Checks `env_cfg` for unknown keys and invalid values; see `prepare`.

    Raises:
        ArgumentError: A key or value is unknown.
    """
    _check_known(env_cfg, _ENVIRONMENT, "env_cfg")
    _check_flags(env_cfg, ("cudnn_benchmark",), "env_cfg")
    check_dist_cfg(env_cfg.get("dist_cfg") or {})
    workers = env_cfg.get("mp_cfg") or {}
    _check_known(workers, _WORKERS, "env_cfg.mp_cfg")
    method, threads = workers.get("mp_start_method"), workers.get("opencv_num_threads")
    if method is not None and method not in multiprocessing.get_all_start_methods():
        raise ArgumentError("unknown start method of worker processes", key="env_cfg.mp_cfg", found=method)
    if threads is not None:
        check_count("opencv_num_threads", threads, least=0, key="env_cfg.mp_cfg.opencv_num_threads")
    if env_cfg.get("resource_limit") is not None:
        check_count("resource_limit", env_cfg["resource_limit"], key="env_cfg.resource_limit")


def check_randomness(randomness: Mapping[str, Any]) -> None:
    """Checks `randomness` for unknown keys and invalid values; see `seed_everything`.

    Raises:
        ArgumentError: A key or value is unknown.
    """
    _check_known(randomness, _RANDOMNESS, "randomness")
    _check_flags(randomness, ("deterministic", "diff_rank_seed"), "randomness")
    seed = randomness.get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 32):
        raise ArgumentError("a seed is a whole number from 0 to 2**32 - 1", key="randomness.seed", found=seed)


def seed_everything(randomness: Mapping[str, Any], *, resumed: Callable[[], int | None] = lambda: None) -> int:
    """Seeds all random generators.

    Args:
        randomness: `seed`, `deterministic`, `diff_rank_seed`.
        resumed: Returns the seed of the run to resume, used if `randomness` has none. If that is None too, a seed is
            drawn.

    Returns:
        The seed that all processes share.
    """
    check_randomness(randomness)
    seed = randomness.get("seed")
    if seed is None:
        seed = compute_on_main(resumed)
    if seed is None:
        seed = broadcast_object(int.from_bytes(os.urandom(4), "little") % (1 << 31))
    check_randomness({"seed": seed})  # also the seed of a resumed run
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
    """Returns the folder of a run's checkpoints and pointer file, and the local folder of its logs and lock."""
    home = storage.absolute(work_dir)
    if storage.is_local(work_dir):
        return home, home
    return home.rstrip("/"), os.path.abspath(os.path.join("work_dirs", storage.base_name(home.rstrip("/"))))


def unused_start(work_dir: str) -> str:
    """Returns the current time as the name of a folder that does not exist in `work_dir`."""
    now = time.strftime("%Y%m%d_%H%M%S")
    names = itertools.chain([now], (f"{now}_{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(os.path.join(work_dir, name)))


def make_start(work_dir: str, name: str) -> str:
    """Creates the log folder of a run and returns its name, which differs from `name` if that exists by now."""
    os.makedirs(work_dir, exist_ok=True)
    while True:
        try:
            os.mkdir(os.path.join(work_dir, name))
        except FileExistsError:
            name = unused_start(work_dir)
        else:
            return name


def _check_known(section: Mapping[str, Any], known: Sequence[str], name: str) -> None:
    if not isinstance(section, Mapping):
        raise ArgumentError(f"{name} must be a dict", key=name, found=section)
    for key in section:
        if key not in known:
            raise ArgumentError(f"{name} has no '{key}'", key=f"{name}.{key}", suggestion=nearest(key, known))


def _check_flags(section: Mapping[str, Any], flags: Sequence[str], name: str) -> None:
    for key in flags:
        if section.get(key) is not None:
            check_flag(key, section[key], key=f"{name}.{key}")


def _allow_open_files(number: int) -> None:
    """Raises the limit of open files of this process to `number`, or to the hard limit of the system."""
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
