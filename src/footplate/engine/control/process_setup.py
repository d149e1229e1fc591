"""Sets up a run's process: ranks, random seeds, determinism, device, malloc and worker start method."""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from footplate.checks import check_choice, check_count, check_flag, check_keys
from footplate.data import SampleLoader
from footplate.data.workers import WorkerInit
from footplate.distributed import (
    broadcast_object,
    check_dist_cfg,
    compute_on_main,
    get_rank,
    ignored_launcher,
    initialize,
    report_uncaught_errors,
)
from footplate.engine.control.script_seed import remember_script_seed, set_marked_seed
from footplate.error_context import at_key
from footplate.errors import ArgumentError

ENVIRONMENT_KEYS = ("cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit")  # the keys of env_cfg
WORKER_KEYS = ("mp_start_method", "opencv_num_threads")  # the keys of env_cfg.mp_cfg
RANDOMNESS_KEYS = ("seed", "deterministic", "diff_rank_seed")
_logger = logging.getLogger("footplate.engine")
# From malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MAX_BLOCK = 1 << 25  # in bytes; if larger blocks were on the heap, it would become fragmented and grow
_MAX_FREE = (1 << 31) - 1  # in bytes, at the end of the heap
_benchmarks = False  # whether the latest run in this process has requested `cudnn_benchmark`
_opencv_threads: int | None = None  # the number before a run has requested another one
_is_deterministic = False  # whether it has requested deterministic algorithms


def prepare(env_cfg: Mapping[str, Any], *, launcher: str) -> None:
    """Initializes distributed training and applies `env_cfg`. Call this before using a GPU.

    Args:
        env_cfg: A dict with `cudnn_benchmark`, `mp_cfg` (`mp_start_method`, `opencv_num_threads`), `dist_cfg`
            (`backend`, `timeout` in seconds, `port`) and `resource_limit` (number of open files).
        launcher: "none", "pytorch", "slurm" or "mpi".

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
        RankError: The ranks could not connect.
    """
    global _benchmarks, _opencv_threads
    with at_key("env_cfg"):
        check_environment(env_cfg)
    if initialize(launcher, env_cfg.get("dist_cfg")):
        report_uncaught_errors()
    elif started := ignored_launcher():
        _logger.warning(
            "Several processes were started, and each is a separate run. If they belong to the same run, set "
            "launcher='%s' (--launcher %s).",
            started,
            started,
        )
    had_benchmarks = _benchmarks
    _benchmarks = bool(env_cfg.get("cudnn_benchmark"))
    if _benchmarks or had_benchmarks:  # otherwise, keep what the user has set
        torch.backends.cudnn.benchmark = _benchmarks
    if env_cfg.get("resource_limit"):
        with contextlib.suppress(ImportError):  # not available on all systems
            import resource

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, env_cfg["resource_limit"]), hard), hard))
    workers = env_cfg.get("mp_cfg") or {}
    if method := workers.get("mp_start_method"):
        multiprocessing.set_start_method(method, force=True)
    threads = workers.get("opencv_num_threads")
    WorkerInit.opencv_threads = 1 if threads is None else threads
    if _opencv_threads is None and threads is not None:
        _opencv_threads = cv2.getNumThreads()
    if _opencv_threads is not None:
        cv2.setNumThreads(_opencv_threads if threads is None else threads)


def check_environment(env_cfg: Mapping[str, Any]) -> None:
    """Checks `env_cfg` for unknown keys and invalid values; see `prepare`.

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
    """
    check_keys("env_cfg", env_cfg, ENVIRONMENT_KEYS)
    settings = {key: value for key, value in env_cfg.items() if value is not None}
    with at_key("dist_cfg"):
        check_dist_cfg(settings.get("dist_cfg", {}))
    check_flag("cudnn_benchmark", settings.get("cudnn_benchmark", False))
    check_count("resource_limit", settings.get("resource_limit", 1))
    workers = settings.get("mp_cfg", {})
    with at_key("mp_cfg"):
        if not isinstance(workers, Mapping):
            raise ArgumentError("env_cfg.mp_cfg must be a dict", found=workers)
        check_keys("env_cfg.mp_cfg", workers, WORKER_KEYS)
        method = workers.get("mp_start_method")
        threads = workers.get("opencv_num_threads")
        if method is not None:
            check_choice("mp_start_method", method, multiprocessing.get_all_start_methods())
        if threads is not None:
            check_count("opencv_num_threads", threads, least=0)


def check_randomness(randomness: Mapping[str, Any]) -> None:
    """Checks `randomness` for unknown keys and invalid values; see `seed_everything`.

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
    """
    check_keys("randomness", randomness, RANDOMNESS_KEYS)
    for key in ("deterministic", "diff_rank_seed"):
        if randomness.get(key) is not None and (key, randomness[key]) != ("deterministic", "warn"):
            check_flag(key, randomness[key])
    if randomness.get("seed") is not None:
        check_count("the seed", randomness["seed"], least=0, most=(1 << 32) - 1, key="seed")


def seed_everything(randomness: Mapping[str, Any], *, choose: Callable[[int | None], int | None] | None = None) -> int:
    """Seeds the random generators of Python, NumPy and PyTorch, and enables or disables deterministic algorithms.

    Args:
        randomness: A dict with `seed`, `deterministic` and `diff_rank_seed`.
        choose: Called on rank 0 with the seed in `randomness`, or None. Returns the seed of the run to resume, or else
            its argument.

    Returns:
        The seed, which is the same in all processes. If it is not set, the one that the script has passed to
        `torch.manual_seed` (see `remember_script_seed`), modulo 2**32, or a random one.
    """
    global _is_deterministic
    with at_key("randomness"):
        check_randomness(randomness)
    script_seed = remember_script_seed()
    import rich.style  # noqa: F401 - import before seeding: the import draws random numbers

    seed = randomness.get("seed")
    if choose is not None:
        seed = compute_on_main(partial(choose, seed))
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little") % (1 << 31) if script_seed is None else script_seed
        seed = broadcast_object(seed % (1 << 32))
    seed = int(seed)  # from a NumPy integer, which `random.seed` rejects
    rank_seed = (seed + get_rank()) % (1 << 32) if randomness.get("diff_rank_seed") else seed
    random.seed(rank_seed)
    np.random.seed(rank_seed)
    set_marked_seed(rank_seed)
    was_deterministic = _is_deterministic
    _is_deterministic = bool(randomness.get("deterministic"))
    if _is_deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=randomness["deterministic"] == "warn")
    elif was_deterministic:  # otherwise, keep what the user has set
        torch.use_deterministic_algorithms(False)
    return seed


def warn_of_nondeterminism(randomness: Mapping[str, Any], loader: Any) -> None:
    """Warns if `randomness.deterministic` is set, but the batches depend on more than the seed."""
    if randomness.get("deterministic") and not isinstance(loader, (SampleLoader, list, tuple)):
        _logger.warning(
            "randomness.deterministic is set, but footplate cannot seed the batches of train_dataloader ('%s'). Seed "
            "them yourself, or use a torch DataLoader with a map-style dataset.",
            type(loader).__name__,
        )


def keep_freed_memory(device: torch.device) -> None:
    """Tunes malloc to keep freed memory in this process and its workers when training on a CPU under Linux.

    By default, glibc returns freed memory at the end of the heap to the system, so the next iteration has to map and
    zero these pages again. Does nothing if a `MALLOC_...` or `GLIBC_TUNABLES` environment variable is set, or if the C
    library is not glibc.

    Args:
        device: The training device.

    Source: mallopt(3) of the GNU C library.
    """
    if (
        device.type != "cpu"
        or sys.platform != "linux"
        or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    ):
        return
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.pythonapi.mallopt  # from the C library that Python is linked against
        mallopt(_M_MMAP_THRESHOLD, _MAX_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, _MAX_FREE)


def pick_device() -> torch.device:
    """Returns this process's GPU, or the CPU if none exists."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def is_interactive() -> bool:
    """Checks whether the output is shown in a terminal that can be redrawn, or in a notebook."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return os.environ.get("TERM") != "dumb" and (is_terminal or is_notebook())


def is_notebook() -> bool:
    """Checks whether this process is a notebook kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
