"""Marks of time that the model itself takes, by the same line in every engine."""

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
    """Notes when each forward pass begins. The memory for it is there from the start.

    Args:
        total: How many passes there will be at most.
        looks: Before which passes the process' own memory is looked at.
    """

    def __init__(self, total: int, looks: tuple[int, ...] = ()) -> None:
        self.times = array("d", bytes(8 * (total + 64)))
        self.count = 0
        self.memory: dict[int, float] = {}
        self.actions: dict[int, Callable[[], None]] = {count: partial(self._look, count) for count in looks}

    def __call__(self) -> None:
        count = self.count
        action = self.actions.get(count)
        if action is not None:
            action()
        self.times[count] = time.perf_counter()
        self.count = count + 1

    def block_us(self, begin: int, end: int, block: int) -> float:
        """Returns the median, over blocks of so many passes, of a pass' microseconds."""
        times, end = self.times, min(end, self.count)
        starts = range(begin, end - block, block)
        return statistics.median((times[at + block] - times[at]) / block for at in starts) * 1e6

    def lasted(self, begin: int, end: int) -> float:
        """Returns the seconds from one pass to another."""
        return self.times[end] - self.times[begin]

    def _look(self, count: int) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.memory[count] = own_megabytes()


def own_megabytes() -> float:
    """Returns how much memory of its own this process has in use, mapped files left out."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        raise RuntimeError("this kernel does not tell RssAnon")
    return int(found[1]) * 1024 / 1e6
