"""Worker processes: what they do with signals, that they are there, and which sample one that died was at."""

import contextlib
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.sharedctypes import RawArray
from multiprocessing.util import Finalize, get_temp_dir, is_exiting
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from torch.utils.data._utils import worker as torch_worker
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from footplate.data.packing import PackedBatch
from footplate.error_context import add_note
from footplate.errors import DataError

_PIDS = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_TIMEOUT = re.compile(r"DataLoader timed out after ([\d.]+) seconds")
_SIGNAL, _EXIT_CODE = re.compile(r"killed by signal: ([^.\n]+)"), re.compile(r"with exit code (\d+)")
_CRASHED = "compiled code crashed: read the sample with num_workers=0 and `python -X faulthandler` to see where"
_HINTS = {
    "SIGKILL": "if the kernel killed it for lack of memory, fewer workers help",
    "SIGBUS": "shared memory (/dev/shm) may be full: fewer workers or a lower prefetch_factor help",
    **dict.fromkeys(("SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL"), _CRASHED),
}
_LOOK = 1.0  # seconds between two looks at workers that are waited for
_MOMENT = 2.0  # seconds that a process may take to die
_AT_ONCE = 0.5  # seconds in which a signal that comes again is the same: some send each twice
_FIELDS = 3  # of a worker: process, position + 1, index


class WorkerStart:
    """What a worker does first: it lets signals for the whole run pass, which the main process answers.

    The first SIGTERM is taken for such a one, unless the main process is leaving; the second ends the worker.

    Args:
        own: The loader's `worker_init_fn`.
        whereabouts: Tells that the main process is leaving.

    When the main process dies, the worker leaves within seconds. Torch looks for that by itself, but takes for the
    main process whoever is the parent when it begins to look: another one, if the main process has just died.
    """

    def __init__(self, own: Callable[[int], None] | None, whereabouts: "Whereabouts") -> None:
        get_temp_dir()  # which workers hand over by: where it cannot be made, they would lose batches without a word
        self._own = own
        self._whereabouts = whereabouts
        self._told: float | None = None

    def __call__(self, worker: int) -> None:
        """Begins worker number `worker`."""
        _watch_for_main()
        for name in ("SIGINT", "SIGUSR1", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._stay_once)
        if self._own is not None:
            self._own(worker)

    def _stay_once(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._whereabouts.leaving or (self._told is not None and now - self._told > _AT_ONCE):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._told = self._told or now


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


class WatchedLoader(DataLoader[Any]):
    """A loader that sees within a second that a worker is gone, whatever it left with.

    Torch sees at once that one was killed or left with an error. That one left with 0 it sees only when it has waited
    for the whole `timeout`; here it looks each second. Time in which this process was itself stopped, Ctrl-Z or a job
    that was suspended, does not count.
    """

    def _get_iterator(self) -> Any:
        return _Watching(self) if self.num_workers else super()._get_iterator()


class _Watching(_MultiProcessingDataLoaderIter):
    """Torch's own pass over a loader, but for how it waits, and that it unpacks a batch before it asks for more.

    It waits for a batch, or for workers that a pass before kept.
    """

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        super()._reset(loader, first_iter)
        self._pieces: dict[object, torch.Tensor] = {}  # of memory that the workers sent in this pass

    def __next__(self) -> Any:
        if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            return super().__next__()
        # Without an entry in a profile that nobody takes. At its end the interpreter's lock is let go, the thread that
        # asks workers for more takes it, and on busy cores the batch that is there is waited for.
        batch = self._next_data()  # type: ignore[no-untyped-call]
        self._num_yielded += 1
        return batch

    def _process_data(self, data: Any, *worker: Any) -> Any:  # torch 2.6 does not tell the worker
        # Unpacked before the worker is asked for more: one that wakes up takes the core from what is done here.
        batch = data.unpack(self._pieces) if isinstance(data, PackedBatch) else data
        return super()._process_data(batch, *worker)  # type: ignore[no-untyped-call]

    def _get_data(self) -> Any:
        until = time.monotonic() + (self._timeout or math.inf)
        while True:
            asked = time.monotonic()
            try:
                is_there, data = self._try_get_data(min(_LOOK, self._timeout or _LOOK))  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise self._with_status(error) from error
            if is_there:
                return data
            if self._pin_memory and not self._pin_memory_thread.is_alive():
                raise RuntimeError("Pin memory thread exited unexpectedly")
            until += max(0.0, time.monotonic() - asked - 2 * _LOOK)
            if time.monotonic() >= until:
                raise RuntimeError(f"DataLoader timed out after {self._timeout:g} seconds")

    def _with_status(self, error: RuntimeError) -> RuntimeError:
        """Returns torch's error about a worker that is gone with its signal or exit code, which torch may omit."""
        if _SIGNAL.search(str(error)) or _EXIT_CODE.search(str(error)):
            return error
        gone = [worker for worker in self._workers if worker.exitcode and str(worker.pid) in str(error)]
        if not gone:
            return error
        return RuntimeError(_of_worker(gone[0].pid, gone[0].exitcode or 0))


@contextlib.contextmanager
def naming_lost_workers(loaders: Iterable[Any]) -> Iterator[None]:
    """Says which sample a worker was at, where torch only says that one died.

    Torch notices in whatever the main process does at that moment, so that this stands around all of it.

    Raises:
        DataError: A worker died or gave no answer in time.
    """
    try:
        yield
    except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
        found = [loader.whereabouts for loader in loaders if getattr(loader, "whereabouts", None) is not None]
        message = str(error)
        if found and not isinstance(error, RuntimeError):  # a worker died while it handed over, perhaps
            message = _death_among([process for each in found for process in each.processes()]) or message
        told = _explained(message, found)
        if told is None:
            raise
        _end(process for each in found for process in each.processes())
        for note in getattr(error, "__notes__", ()):
            add_note(told, note)
        raise told from error


def end_workers(loaders: Iterable[Any]) -> None:
    """Kills the workers of loaders that are read no more; one that hangs would keep this process from ending."""
    _end(process for each in loaders for process in getattr(getattr(each, "whereabouts", None), "processes", list)())


def handle_deaths_of_workers() -> None:
    """Has torch raise an error when a worker dies, from here on rather than from the first pass with workers on."""
    signal_handling._set_SIGCHLD_handler()


def tells_of_lost_worker(error: RuntimeError) -> bool:
    """Checks whether an error is torch's word of a worker that died."""
    return _PIDS.search(str(error)) is not None


def _death_among(processes: list[int]) -> str | None:
    """Returns what torch says of a worker that is dead, or will be in a moment; None where all live."""
    deadline = time.monotonic() + _MOMENT
    try:
        while hasattr(os, "waitid") and time.monotonic() < deadline:
            for process in processes:
                with contextlib.suppress(ChildProcessError):
                    found = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG)
                    if found:
                        left = found.si_code == os.CLD_EXITED
                        return _of_worker(process, found.si_status if left else -found.si_status)
            time.sleep(0.01)
    except RuntimeError as error:  # torch's own word, which comes whatever is being done
        return str(error)
    return None


def _explained(message: str, found: list[Whereabouts]) -> DataError | None:
    died, late = _PIDS.search(message), _TIMEOUT.search(message)
    if late:
        indices = [each.of(process) for each in found for process in each.processes()]
        at = ", ".join(str(index) for index in indices if index is not None)
        return DataError(
            f"no worker of the data loader gave a batch in {late[1]} s: they were at samples {at}",
            notes=["a loader's `timeout` says how long to wait, 0 without an end"],
        )
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


def _of_worker(process: int | None, status: int) -> str:
    """Returns what torch says of a worker that ended with an exit code, or was killed by a signal, a negative one."""
    how = f"exited unexpectedly with exit code {status}" if status >= 0 else f"is killed by signal: {_word(-status)}"
    return f"DataLoader worker (pid {process}) {how}"


def _word(number: int) -> str:
    return signal.strsignal(number) or f"signal {number}"


def _reasons(process: int, message: str) -> list[str]:
    killed, left = _SIGNAL.search(message), _EXIT_CODE.search(message)
    if killed:
        word = killed[1].strip()
        name = next((each.name for each in signal.Signals if _word(each) == word), word)
        hint = _HINTS.get(name)
        return [f"process {process}: killed by {name} ({word})", *([hint] if hint else [])]
    return [
        f"process {process}: exited with code {left[1] if left else 0}",
        "it left without an error: os._exit does that, or exit in foreign code",
    ]


def _end(processes: Iterable[int]) -> None:
    """Kills the workers of a run that is over, which may keep this process from ending.

    One that hangs may hear no milder signal; one that died may have held the lock of the queue that they share.
    """
    if not hasattr(signal, "SIGCHLD"):
        return
    # Torch raises an error, wherever this process is by then, when a worker dies; in the main thread alone.
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if here else None
    for process in processes:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    if here:
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


def _watch_for_main() -> None:
    """Tells torch, in the process of a worker, whose death to look for."""
    main = multiprocessing.parent_process()
    if main is None or main.pid is None or sys.platform == "win32":
        return
    known = main.pid
    if os.getppid() == known:

        class Watchdog(torch_worker.ManagerWatchdog):
            def __init__(self) -> None:
                super().__init__()
                self.manager_pid = known

        torch_worker.ManagerWatchdog = Watchdog  # type: ignore[misc]
    elif not main.is_alive():  # else a server forks for it, whose end torch sees
        os._exit(0)


def _leave(slots: Any) -> None:
    slots[-1] = 1
    # Torch's handler would raise for the workers that are ended now, within somebody's cleaning up.
    if is_exiting() and hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
