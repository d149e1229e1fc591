"""Helpers from `mmengine.utils.dl_utils`, `mmengine.device` and `mmengine.testing`."""

import importlib.util
import os
import platform
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ContextDecorator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from footplate.engine.process_setup import prepare
from footplate.openmmlab.mmengine.managers import print_log
from footplate.records import describe_environment


def is_rocm_pytorch() -> bool:
    """Checks whether PyTorch was built for AMD devices."""
    return torch.version.hip is not None


def mmcv_full_available() -> bool:
    """Checks whether mmcv's operators, compiled or provided by footplate, can be imported."""
    return importlib.util.find_spec("mmcv") is not None and importlib.util.find_spec("mmcv._ext") is not None


def set_multi_processing(mp_start_method: str = "fork", opencv_num_threads: int = 0, distributed: bool = False) -> None:
    """Sets the multiprocessing start method and the number of OpenCV threads.

    Args:
        mp_start_method: "fork", "spawn" or "forkserver".
        opencv_num_threads: The number of OpenCV threads; 0 disables multithreading.
        distributed: Whether to limit OpenMP and MKL to one thread per process. Has no effect if environment variables
            already set the number of threads.
    """
    method = None if platform.system() == "Windows" else mp_start_method
    prepare({"mp_cfg": {"mp_start_method": method, "opencv_num_threads": opencv_num_threads}}, launcher="none")
    if distributed:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")


def collect_env() -> "OrderedDict[str, str]":
    """Returns the versions of Python and the main packages, the accelerator, and the git commit."""
    return OrderedDict((name, fact) for name, fact in describe_environment().items() if isinstance(fact, str))


def tensor2imgs(
    tensor: Tensor,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    to_bgr: bool = True,
) -> list[np.ndarray[Any, Any]]:
    """Converts a batch of normalized image tensors to uint8 arrays.

    Args:
        tensor: A tensor of shape (N, C, H, W), where C is 1 or 3.
        mean: The mean of each channel; None means 0.
        std: The standard deviation of each channel; None means 1.
        to_bgr: Whether to convert the images from RGB to BGR.

    Returns:
        A list of arrays of shape (H, W, C).
    """
    images = tensor.detach().cpu().permute(0, 2, 3, 1).numpy()
    scale, shift = np.array(1 if std is None else std, np.float32), np.array(0 if mean is None else mean, np.float32)
    images = images * scale + shift
    if to_bgr:
        images = images[..., ::-1]  # has no effect on a single channel
    return [np.ascontiguousarray(image.astype(np.uint8)) for image in images]


class TimeCounter(ContextDecorator):
    """Logs the mean duration of a function or block.

    Args:
        log_interval: The number of calls between log lines.
        warmup_interval: The number of initial calls to exclude from the mean.
        with_sync: Whether to synchronize with the GPU before each time measurement.
        tag: The name in the log.
        logger: See `print_log`.
    """

    def __init__(
        self,
        log_interval: int = 1,
        warmup_interval: int = 1,
        with_sync: bool = True,
        tag: str | None = None,
        logger: Any = None,
    ) -> None:
        self.interval, self.with_sync, self.tag, self.logger = log_interval, with_sync, tag, logger
        self._calls, self._seconds = -warmup_interval, 0.0

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:  # type: ignore[override]
        """Decorates a function to measure the duration of each call."""
        self.tag = self.tag or fn.__name__
        return super().__call__(fn)

    def _now(self) -> float:
        if self.with_sync and torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def __enter__(self) -> None:
        self._start = self._now()

    def __exit__(self, *_: object) -> None:
        elapsed = self._now() - self._start
        self._calls += 1
        if self._calls > 0:
            self._seconds += elapsed
            if self._calls % self.interval == 0:
                print_log(f"[{self.tag}]-time per run averages {self._seconds / self._calls * 1e3:.2f} ms", self.logger)


def assert_allclose(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = True,
    msg: str | Callable[[str], str] | None = "",
) -> None:
    """Raises AssertionError if two values are not close; see `torch.testing.assert_close`."""
    torch.testing.assert_close(
        actual, expected, rtol=rtol, atol=atol, equal_nan=equal_nan, msg=msg or None, check_dtype=False
    )


def assert_params_all_zeros(module: nn.Module) -> bool:
    """Checks whether all direct parameters of a module are zero. Ignores submodules."""
    return not any(parameter.detach().any() for parameter in module.parameters(recurse=False))


_KINDS = ("cuda", "npu", "mlu", "musa", "dipu", "mps")


def _is_available(kind: str) -> bool:
    """Checks whether a device of this type is available."""
    module = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return module is not None and bool(module.is_available())


is_cuda_available = partial(_is_available, "cuda")
is_npu_available = partial(_is_available, "npu")  # Ascend
is_mlu_available = partial(_is_available, "mlu")  # Cambricon
is_musa_available = partial(_is_available, "musa")  # Moore Threads
is_mps_available = partial(_is_available, "mps")


def get_device() -> str:
    """Returns the type of the first available accelerator, or "cpu"."""
    return next((kind for kind in _KINDS if _is_available(kind)), "cpu")


def get_max_cuda_memory(device: Any = None) -> int:
    """Returns the peak memory allocated on a GPU since the last call, in MiB."""
    memory = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return int(memory // 2**20)
