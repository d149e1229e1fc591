"""Worker processes: what they do with signals, and which sample one that died was at."""

import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawArray
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

from footplate.errors import DataError

_PIDS = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_TIMEOUT = re.compile(r"DataLoader timed out after (\d+) seconds")
_FIELDS = 3  # of a worker: process, position + 1, index


class WorkerStart:
    """What a worker does first: it lets signals for the whole run pass, which the main process answers.

    The first SIGTERM is taken for such a one, unless the main process is leaving; the second ends the worker.

    Args:
        own: The loader's `worker_init_fn`.
        whereabouts: Tells that the main process is leaving.

    Attributes:
        main: The process that reads; a worker that finds it dead at its beginning leaves, for torch takes whoever
            is the parent then for the main process.
    """

    def __init__(self, own: Callable[[int], None] | None, whereabouts: "Whereabouts") -> None:
        self._own = own
        self._whereabouts = whereabouts
        self.main = os.getpid()

    def __call__(self, worker: int) -> None:
        """Begins worker number `worker`."""
        if os.getppid() != self.main:
            os._exit(0)
        for name in ("SIGINT", "SIGUSR1"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._stay_once)
        if self._own is not None:
            self._own(worker)

    def _stay_once(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if self._whereabouts.leaving:
            os.kill(os.getpid(), number)


class Whereabouts:
    """Which sample each worker is at, in memory that all processes share.

    Args:
        workers: How many there are.
    """

    def __init__(self, workers: int) -> None:
        self._slots: Any = RawArray("q", workers * _FIELDS + 1)
        # Called before the workers that are left at the end are sent SIGTERM and waited for.
        Finalize(self, _leave, args=(self._slots,), exitpriority=100)

    @property
    def leaving(self) -> bool:
        """Whether the main process is about to end."""
        return bool(self._slots[-1])

    def note(self, worker: int, process: int, position: int, index: Any) -> None:
        """Notes that a worker begins with a sample."""
        start = worker * _FIELDS
        self._slots[start : start + _FIELDS] = (process, position + 1, index if isinstance(index, int) else -1)

    def of(self, process: int) -> int | None:
        """Returns the index of the sample that a worker began with last; None if it has not begun, or is not ours."""
        slots = list(self._slots[:-1])
        for start in range(0, len(slots), _FIELDS):
            if slots[start] == process and slots[start + 1]:
                return int(slots[start + 2])
        return None

    def processes(self) -> list[int]:
        """Returns the workers that have begun."""
        return [process for process in self._slots[:-1:_FIELDS] if process]


@contextmanager
def naming_lost_workers(loaders: Iterable[Any]) -> Iterator[None]:
    """Says which sample a worker was at, where torch only says that one died.

    Torch notices in whatever the main process does at that moment, so that this stands around all of it.

    Raises:
        DataError: A worker died or gave no answer in time.
    """
    try:
        yield
    except (RuntimeError, EOFError, ConnectionError) as error:  # the last two where it died while it handed over
        found = [loader.whereabouts for loader in loaders if getattr(loader, "whereabouts", None) is not None]
        told = _explained(str(error), found)
        if told is None:
            raise
        raise told from error


def _explained(message: str, found: list[Whereabouts]) -> DataError | None:
    died, late = _PIDS.search(message), _TIMEOUT.search(message)
    if late:
        indices = [each.of(process) for each in found for process in each.processes()]
        at = ", ".join(str(index) for index in indices if index is not None)
        return DataError(f"no worker of the data loader gave a batch in {late[1]} s: they were at samples {at}")
    if not died:
        return None
    for process in map(int, died[1].replace(" ", "").split(",")):
        for each in found:
            index = each.of(process)
            if index is not None:
                return DataError(
                    f"a worker of the data loader died while it read sample {index}", notes=_reasons(process, message)
                )
    return None


def _reasons(process: int, message: str) -> list[str]:
    reason = message.split("\n", 1)[0].strip()
    return [f"process {process}: {reason}", "if the kernel killed it for lack of memory, fewer workers help"]


def _leave(slots: Any) -> None:
    slots[-1] = 1
