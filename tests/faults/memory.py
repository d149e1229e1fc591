"""How much memory a process keeps."""

import ctypes
import os
import sys
from pathlib import Path

_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Allocated(ctypes.Structure):
    """What glibc's allocator says of itself, over all threads."""

    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS]  # noqa: RUF012 - ctypes wants a list


def kept_memory() -> dict[str, float]:
    """Returns what this process keeps.

    Returns:
        `MB`: pages of its own that lie in memory, without those of files, which the system takes back at will.
        `of_files_MB`: those of files.
        `used`: bytes that were asked of the C library's allocator and not given back, counted, not estimated.
        `free`: bytes that the allocator holds and nobody uses.
        `objects`: blocks that Python's allocator has given out.
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
    """Reads the kernel's own count, in kilobytes; that of /proc/self/statm lags behind by some pages a processor."""
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()[1:]
    return [(line.split(":")[0], int(line.split()[1])) for line in lines]


def _allocated() -> _Allocated:
    tell = ctypes.CDLL(None).mallinfo2
    tell.restype = _Allocated
    found: _Allocated = tell()
    return found
