"""What a run ran on."""

import importlib.metadata
import os
import platform
import sys

import torch

try:
    import resource
except ImportError:  # not on every system
    resource = None  # type: ignore[assignment]

_PACKAGES = ("footplate", "torch", "numpy", "Pillow", "rich", "fsspec")


def memory_in_use(device: torch.device) -> int:
    """Returns the most memory used so far, in MiB: the accelerator's, or of this process on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) >> 20)
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak >> (20 if sys.platform == "darwin" else 10))


def describe_environment() -> dict[str, str]:
    """Returns the interpreter, packages, processor and accelerators, as words for a log or a bug report."""
    facts = {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "processors": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        facts["accelerator"] = f"{', '.join(names)} (CUDA {torch.version.cuda})"
    elif torch.backends.mps.is_available():
        facts["accelerator"] = "Apple MPS"
    else:
        facts["accelerator"] = "none"
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts
