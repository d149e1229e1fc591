"""Timestamps of forward passes, recorded by the model in the same way for every engine."""

import ctypes
import gc
import re
import statistics
import time
from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path


class Stamps:
    """Records the start of each forward pass in preallocated memory.

    Args:
        total: The maximum number of passes.
        memory_passes: The passes before which to measure the memory of the process.
    """

    def __init__(self, total: int, memory_passes: tuple[int, ...] = ()) -> None:
        self.times = array("d", bytes(8 * (total + 64)))
        self.count = 0
        self.memory: dict[int, float] = {}
        self.actions: dict[int, Callable[[], None]] = {
            count: partial(self._measure_memory, count) for count in memory_passes
        }

    def __call__(self) -> None:
        count = self.count
        action = self.actions.get(count)
        if action is not None:
            action()
        self.times[count] = time.perf_counter()
        self.count = count + 1

    def block_us(self, begin: int, end: int, block: int) -> float:
        """Returns the median over blocks of the mean microseconds of a pass."""
        times, end = self.times, min(end, self.count)
        starts = range(begin, end - block, block)
        return statistics.median((times[at + block] - times[at]) / block for at in starts) * 1e6

    def lasted(self, begin: int, end: int) -> float:
        """Returns the seconds between two passes."""
        return self.times[end] - self.times[begin]

    def _measure_memory(self, count: int) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.memory[count] = own_megabytes()


def own_megabytes() -> float:
    """Returns the anonymous resident memory of this process in MB, which excludes mapped files."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise RuntimeError("this kernel does not tell RssAnon")
    return int(found[1]) * 1024 / 1e6
