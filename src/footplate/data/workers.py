"""Manages worker processes: signals, detection of dead workers, and the sample that a dead worker was reading."""

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

from footplate.data.shared_memory import PackedBatch
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
_LOOK = 1.0  # seconds between checks whether workers are alive
_MOMENT = 2.0  # seconds to wait for a process to die
_AT_ONCE = 0.5  # seconds in which a repeated signal counts as the same one; some senders send each signal twice
_FIELDS = 3  # per worker: process, position + 1, index


class DataWait:
    """Whether this process waits for data at a place where a signal handler may raise an error.

    Set while a sample is read and while a worker is waited for, but not while the random generators of the run are
    exchanged for those of a sample, or stored.
    """

    is_interruptible = False


data_wait = DataWait()


def interruptible(iterator: Iterator[Any]) -> Iterator[Any]:
    """Yields the batches of a foreign iterator, each wait for which a signal handler may interrupt."""
    end = object()
    while True:
        data_wait.is_interruptible = True
        try:
            batch = next(iterator, end)
        finally:
            data_wait.is_interruptible = False
        if batch is end:
            return
        yield batch
        del batch


class WorkerStart:
    """Initializes a worker: ignores signals that the main process handles for the whole run.

    The first SIGTERM is ignored, unless the main process is exiting. The second SIGTERM ends the worker.

    Args:
        own: The `worker_init_fn` of the loader.
        whereabouts: Signals that the main process is exiting.

    If the main process dies, the worker exits within seconds. Torch's own check watches the parent at the time when
    the check starts, which is the wrong process if the main process has just died.
    """

    def __init__(self, own: Callable[[int], None] | None, whereabouts: "Whereabouts") -> None:
        get_temp_dir()  # workers need it to send batches; without it, batches would be lost silently
        self._own = own
        self._whereabouts = whereabouts
        self._told: float | None = None

    def __call__(self, worker: int) -> None:
        """Initializes the worker with index `worker`."""
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
    """The current sample of each worker, in shared memory.

    Args:
        workers: The number of workers.
    """

    def __init__(self, workers: int) -> None:
        self._slots: Any = RawArray("q", workers * _FIELDS + 1)
        # Runs before multiprocessing terminates the remaining workers at exit.
        Finalize(self, _leave, args=(self._slots,), exitpriority=100)

    @property
    def leaving(self) -> bool:
        """Whether the main process is exiting."""
        return bool(self._slots[-1])

    def note(self, worker: int, process: int, position: int, index: Any) -> None:
        """Records that a worker starts to read a sample."""
        start = worker * _FIELDS
        self._slots[start : start + _FIELDS] = (process, position + 1, index if isinstance(index, int) else -1)

    def of(self, process: int) -> int | None:
        """Returns the index of the sample that a worker started to read last; None if the process is not known."""
        slots = list(self._slots[:-1])
        for start in range(0, len(slots), _FIELDS):
            if slots[start] == process and slots[start + 1]:
                return int(slots[start + 2])
        return None

    def processes(self) -> list[int]:
        """Returns the process ids of the workers that have started to read."""
        return [process for process in self._slots[:-1:_FIELDS] if process]


class WatchedLoader(DataLoader[Any]):
    """A loader that detects within a second that a worker has exited.

    Torch detects at once if a worker is killed or exits with an error. If a worker exits with code 0, torch notices
    only after the whole `timeout`; this loader checks every second. Time in which this process was suspended, such as
    by Ctrl-Z, does not count towards the timeout.
    """

    def _get_iterator(self) -> Any:
        return _Watching(self) if self.num_workers else super()._get_iterator()


class _Watching(_MultiProcessingDataLoaderIter):
    """Torch's iterator over a loader, except that it checks workers while it waits, and unpacks batches early.

    It waits for a batch, or for persistent workers from a previous pass.
    """

    def _reset(self, loader: Any, first_iter: bool = False) -> None:
        super()._reset(loader, first_iter)
        self._pieces: dict[object, torch.Tensor] = {}  # the memory blocks that the workers have sent in this pass

    def __next__(self) -> Any:
        if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            return super().__next__()
        # Without a profiler, the profiler entry is skipped. Its end releases the GIL to the thread that requests more
        # batches. On busy cores, that would delay the batch that is already here.
        batch = self._next_data()  # type: ignore[no-untyped-call]
        self._num_yielded += 1
        return batch

    def _process_data(self, data: Any, *worker: Any) -> Any:  # torch 2.6 does not pass the worker
        # Unpacked before the next batch is requested, because a worker that wakes up may take this core.
        batch = data.unpack(self._pieces) if isinstance(data, PackedBatch) else data
        return super()._process_data(batch, *worker)  # type: ignore[no-untyped-call]

    def _get_data(self) -> Any:
        data_wait.is_interruptible = True
        try:
            return self._wait_for_data()
        finally:
            data_wait.is_interruptible = False

    def _wait_for_data(self) -> Any:
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
        """Adds the signal or exit code of a dead worker to torch's error, which may omit it."""
        if _SIGNAL.search(str(error)) or _EXIT_CODE.search(str(error)):
            return error
        gone = [worker for worker in self._workers if worker.exitcode and str(worker.pid) in str(error)]
        if not gone:
            return error
        return RuntimeError(_of_worker(gone[0].pid, gone[0].exitcode or 0))


@contextlib.contextmanager
def naming_lost_workers(loaders: Iterable[Any]) -> Iterator[None]:
    """Converts torch's error about a dead worker to an error that names the sample that it was reading.

    Torch raises its error in whatever code the main process is running, so the block must include all of it.

    Raises:
        DataError: A worker died or gave no answer in time.
    """
    try:
        yield
    except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
        found = [loader.whereabouts for loader in loaders if getattr(loader, "whereabouts", None) is not None]
        message = str(error)
        if found and not isinstance(error, RuntimeError):  # a worker may have died while it sent a batch
            message = _death_among([process for each in found for process in each.processes()]) or message
        told = _explained(message, found)
        if told is None:
            raise
        _end(process for each in found for process in each.processes())
        for note in getattr(error, "__notes__", ()):
            add_note(told, note)
        raise told from error


def end_workers(loaders: Iterable[Any]) -> None:
    """Kills the workers of loaders that are no longer used, since a worker that hangs would keep this process alive."""
    _end(process for each in loaders for process in getattr(getattr(each, "whereabouts", None), "processes", list)())


def handle_deaths_of_workers() -> None:
    """Makes torch raise an error when a worker dies, starting now instead of at the first pass with workers."""
    signal_handling._set_SIGCHLD_handler()


def tells_of_lost_worker(error: RuntimeError) -> bool:
    """Checks whether an error is torch's report of a dead worker."""
    return _PIDS.search(str(error)) is not None


def _death_among(processes: list[int]) -> str | None:
    """Returns torch's message for a worker that is dead or dies within `_MOMENT` seconds; None if all are alive."""
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
    except RuntimeError as error:  # torch's own report, which can be raised at any point
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
    """Returns torch's message for a worker with an exit code, or a negative signal number if it was killed."""
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
    """Kills the workers of a run that is over, which might keep this process alive.

    A worker that hangs may not react to other signals. A dead worker may still hold the lock of the shared queue.
    """
    if not hasattr(signal, "SIGCHLD"):
        return
    # Torch's handler raises an error in the main thread when a worker dies.
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if here else None
    for process in processes:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    if here:
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


def _watch_for_main() -> None:
    """Sets the process id that torch's watchdog in a worker monitors to that of the main process."""
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
    elif not main.is_alive():  # otherwise the parent is a fork server, which torch monitors
        os._exit(0)


def _leave(slots: Any) -> None:
    slots[-1] = 1
    # Torch's handler would raise an error for the workers that end now, in the middle of other exit handlers.
    if is_exiting() and hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
