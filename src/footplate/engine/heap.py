"""Tunes malloc to keep freed memory in the process instead of returning it to the system after each iteration."""

import contextlib
import ctypes
import os
import sys

import torch

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT = (1 << 30, 1 << 25)  # bytes; older versions accept at most the second
_MOST_KEPT = (1 << 31) - 1  # free bytes at the end of the heap


def keep_freed_memory(device: torch.device) -> None:
    """Tunes malloc to keep freed memory in this process and its workers when training on a CPU under Linux.

    When an iteration frees memory at the end of the heap, glibc returns it to the system, and the next iteration has
    to map and clear each page again. Does nothing if an environment variable `MALLOC_...` or `GLIBC_TUNABLES` is set,
    or with another C library.

    Args:
        device: The device on which the model is trained.

    Source: mallopt(3) of the GNU C library.
    """
    if device.type != "cpu" or sys.platform != "linux" or any(map(_says_what_is_wished, os.environ)):
        return
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.pythonapi.mallopt  # from the C library that Python is linked with; no library is opened
        if any(mallopt(_M_MMAP_THRESHOLD, size) for size in _LARGEST_KEPT):
            mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def _says_what_is_wished(name: str) -> bool:
    return name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"
