"""The helpers of `mmengine.device`."""

from functools import partial

import torch

_KINDS = ("cuda", "npu", "mlu", "musa", "dipu", "mps")


def _is_available(kind: str) -> bool:
    """Checks whether a device of a kind is available."""
    module = torch.backends.mps if kind == "mps" else getattr(torch, kind, None)
    return module is not None and bool(module.is_available())


is_cuda_available = partial(_is_available, "cuda")
is_npu_available = partial(_is_available, "npu")  # Ascend
is_mlu_available = partial(_is_available, "mlu")  # Cambricon
is_musa_available = partial(_is_available, "musa")  # Moore Threads
is_dipu_available = partial(_is_available, "dipu")
is_mps_available = partial(_is_available, "mps")


def is_npu_support_full_precision() -> bool:
    """Checks whether an Ascend device computes in full precision."""
    return is_npu_available() and not torch.npu.get_device_name().startswith("Ascend910A")  # type: ignore[attr-defined]


def get_device() -> str:
    """Returns the type of the first available accelerator, or "cpu"."""
    return next((kind for kind in _KINDS if _is_available(kind)), "cpu")


def get_max_cuda_memory(device: torch.device | None = None) -> int:
    """Returns the peak allocated memory of a CUDA device since the last call, in MB."""
    memory = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return int(memory // 2**20)


def get_max_musa_memory(device: torch.device | None = None) -> int:
    """Returns the peak allocated memory of a Moore Threads device since the last call, in MB."""
    memory = torch.musa.max_memory_allocated(device)  # type: ignore[attr-defined]
    torch.musa.reset_peak_memory_stats(device)  # type: ignore[attr-defined]
    return int(memory // 2**20)
