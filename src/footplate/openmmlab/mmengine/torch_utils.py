"""Helpers from `mmengine.utils.dl_utils`, `mmengine.device` and `mmengine.testing`."""

import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ContextDecorator
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from footplate.engine.process_setup import prepare
from footplate.openmmlab.mmengine.managers import print_log
from footplate.records import describe_environment


def is_rocm_pytorch() -> bool:
    """Checks whether PyTorch was built for AMD devices."""
    return torch.version.hip is not None


def mmcv_full_available() -> bool:
    """Checks whether mmcv's operators, compiled or provided by footplate, can be imported."""
    return importlib.util.find_spec("mmcv") is not None and importlib.util.find_spec("mmcv._ext") is not None


torch_meshgrid = partial(torch.meshgrid, indexing="ij")


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
    shift = torch.tensor([0.0] if mean is None else mean).view(-1, 1, 1)
    scale = torch.tensor([1.0] if std is None else std).view(-1, 1, 1)
    images = (tensor.detach().cpu() * scale + shift).permute(0, 2, 3, 1).numpy()
    if to_bgr:
        images = images[..., ::-1]  # has no effect on a single channel
    return [np.ascontiguousarray(image.astype(np.uint8)) for image in images]


class TimeCounter(ContextDecorator):
    """Logs the mean duration of a function or block.

    Args:
        log_interval: The number of calls between log lines.
        warmup_interval: The number of initial calls to exclude from the mean. Below 1, raises an AssertionError.
        with_sync: Whether to synchronize with the GPU before each time measurement.
        tag: The name in the log.
        logger: See `print_log`.
    """

    instance_dict: ClassVar[dict[str, "TimeCounter"]] = {}

    def __init__(
        self,
        log_interval: int = 1,
        warmup_interval: int = 1,
        with_sync: bool = True,
        tag: str | None = None,
        logger: Any = None,
    ) -> None:
        if warmup_interval < 1:
            raise AssertionError(f"'warmup_interval' must be at least 1, not {warmup_interval}.")
        self.log_interval, self.warmup_interval, self.with_sync = log_interval, warmup_interval, with_sync
        self.tag, self.logger = tag, logger
        self._calls, self._seconds = 0, 0.0
        if tag is not None:
            self.instance_dict[tag] = self

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:  # type: ignore[override]
        """Decorates a function to measure the duration of each call."""
        self.tag = self.tag or fn.__name__
        return super().__call__(fn)

    def _now(self) -> float:
        if self.with_sync and torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def __enter__(self) -> Self:
        self._start = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed = self._now() - self._start
        self._calls += 1
        if self._calls > self.warmup_interval:
            self._seconds += elapsed
            if self._calls % self.log_interval == 0:
                self.print_time(self._seconds / (self._calls - self.warmup_interval))

    def print_time(self, elapsed: float) -> None:
        """Logs the mean duration in milliseconds. `elapsed` is in seconds."""
        print_log(f"[{self.tag}]-time per run averages {elapsed * 1e3:.2f} ms", self.logger)


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


def assert_dict_contains_subset(dict_obj: Mapping[Any, Any], expected_subset: Mapping[Any, Any]) -> bool:
    """Checks whether a dict contains all items of `expected_subset`."""
    return all(key in dict_obj and bool(np.all(dict_obj[key] == value)) for key, value in expected_subset.items())


def assert_attrs_equal(obj: Any, expected_attrs: Mapping[str, Any]) -> bool:
    """Checks whether an object's attributes have the values in `expected_attrs`."""
    return all(hasattr(obj, name) and getattr(obj, name) == value for name, value in expected_attrs.items())


def assert_dict_has_keys(obj: Mapping[str, Any], expected_keys: Sequence[str]) -> bool:
    """Checks whether a dict contains all `expected_keys`."""
    return set(expected_keys) <= set(obj)


def assert_keys_equal(result_keys: Sequence[str], target_keys: Sequence[str]) -> bool:
    """Checks whether two sequences contain the same keys, in any order."""
    return set(result_keys) == set(target_keys)


def assert_params_all_zeros(module: nn.Module) -> bool:
    """Checks whether all direct parameters of a module are zero. Ignores submodules."""
    return not any(parameter.detach().any() for parameter in module.parameters(recurse=False))


def check_python_script(cmd: str) -> None:
    """Runs a command of the form `python script.py ...` in a separate process.

    Raises:
        subprocess.CalledProcessError: The script failed.
    """
    subprocess.run([sys.executable, *cmd.split()[1:]], check=True)


_KINDS = ("cuda", "npu", "mlu", "musa", "dipu", "mps")


def _is_available(kind: str) -> bool:
    """Checks whether a device of this type is available."""
    module = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return module is not None and bool(module.is_available())


is_cuda_available = partial(_is_available, "cuda")
is_npu_available = partial(_is_available, "npu")  # Ascend
is_mlu_available = partial(_is_available, "mlu")  # Cambricon
is_musa_available = partial(_is_available, "musa")  # Moore Threads
is_dipu_available = partial(_is_available, "dipu")
is_mps_available = partial(_is_available, "mps")


def is_npu_support_full_precision() -> bool:
    """Checks whether there is an Ascend device that supports full precision."""
    return is_npu_available() and not torch.npu.get_device_name().startswith("Ascend910A")  # type: ignore[attr-defined]


def get_device() -> str:
    """Returns the type of the first available accelerator, or "cpu"."""
    return next((kind for kind in _KINDS if _is_available(kind)), "cpu")


def _max_memory(kind: str, device: Any = None) -> int:
    """Returns the peak memory allocated on a device since the last call, in MiB."""
    module = getattr(torch, kind)
    memory = module.max_memory_allocated(device)
    module.reset_peak_memory_stats(device)
    return int(memory // 2**20)


get_max_cuda_memory = partial(_max_memory, "cuda")
get_max_musa_memory = partial(_max_memory, "musa")
