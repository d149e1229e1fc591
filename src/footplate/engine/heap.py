"""Has the C library keep the memory that an iteration gives back, where it would hand it to the system and back."""

import contextlib
import ctypes
import os
import sys

import torch

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = (1 << 30, 1 << 25)  # bytes; older ones take no more than the second
_MOST_KEPT = (1 << 31) - 1  # bytes that are free at the end of the heap


def keep_freed_memory(device: torch.device) -> None:
    """Has memory that is freed stay with this process and its workers, for a training on a CPU under Linux.

    At the end of an iteration the end of the heap is free, and glibc gives it back to the system: the next iteration
    has each page mapped and cleared anew. Nothing is changed where a variable `MALLOC_...` or `GLIBC_TUNABLES` says
    what is wished, nor for another C library.

    Args:
        device: Where the model is trained.

    Source: mallopt(3) of the GNU C library.
    """
    if device.type != "cpu" or sys.platform != "linux" or any(map(_says_what_is_wished, os.environ)):
        return
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.pythonapi.mallopt  # of what Python itself is linked with; no library is opened
        if any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_KEPT):
            mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def _says_what_is_wished(name: str) -> bool:
    return name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"
