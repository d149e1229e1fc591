"""The memory usage of a process."""

import ctypes
import os
import sys
from pathlib import Path

_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Allocated(ctypes.Structure):
    """The statistics of glibc's allocator over all threads."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]  # noqa: RUF012 - ctypes wants a list


def kept_memory() -> dict[str, float]:
    """Returns the memory usage of this process.

    Returns:
        `MB`: resident pages, without those of files, which the system can reclaim at any time.
        `of_files_MB`: resident pages of files.
        `used`: bytes allocated by the C library and not freed, counted exactly.
        `free`: bytes that the allocator holds but does not use.
        `objects`: blocks allocated by Python's allocator.
    """
    pages = dict(_rollup())
    allocated = _allocated()
    return {
        "MB": pages["Anonymous"] * 1024 / 1e6,
        "of_files_MB": (pages["Rss"] - pages["Anonymous"]) * 1024 / 1e6,
        "used": float(allocated.uordblks + allocated.hblkhd),
        "free": float(allocated.fordblks),
        "objects": float(sys.getallocatedblocks()),
    }


def _rollup() -> list[tuple[str, int]]:
    """Returns the kernel's count in kilobytes; that of /proc/self/statm is off by some pages per processor."""
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()[1:]
    return [(line.split(":")[0], int(line.split()[1])) for line in lines]


def _allocated() -> _Allocated:
    tell = ctypes.CDLL(None).mallinfo2
    tell.restype = _Allocated
    found: _Allocated = tell()
    return found
