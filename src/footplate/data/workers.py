"""Manages worker processes: signals, detection of dead workers, and the sample that a dead worker was reading."""

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.sharedctypes import RawArray
from multiprocessing.util import Finalize, get_temp_dir, is_exiting
from types import FrameType
from typing import Any, ClassVar

from torch.utils.data._utils import signal_handling

from footplate.error_context import add_note
from footplate.errors import DataError

# Parts of torch's messages.
_PIDS = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_TIMEOUT = re.compile(r"DataLoader timed out after ([\d.]+) seconds")
_SIGNAL, _EXIT_CODE = re.compile(r"killed by signal: ([^.\n]+)"), re.compile(r"with exit code (\d+)")
_CRASHED = "Compiled code crashed. Read the sample with num_workers=0 and `python -X faulthandler` to find the line."
_HINTS = {
    "exit": "It exited without an error, for example through os._exit() or exit() in compiled code.",
    "SIGKILL": "If the kernel killed it for lack of memory, use fewer workers.",
    "SIGBUS": "Shared memory (/dev/shm) may be full. Use fewer workers or a lower prefetch_factor.",
    **dict.fromkeys(("SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL"), _CRASHED),
}
_DEATH_DELAY = 2.0  # seconds to wait for a process to die
_REPEAT_INTERVAL = 0.5  # seconds within which a repeated signal counts once; some senders send every signal twice
_FIELDS = 3  # per worker: process, position + 1, index


class DataWait:
    """Records whether this process is waiting for data, so that a signal handler may raise an error.

    This is the case while the process reads a sample or waits for a worker, but not while it swaps or stores the random
    generators of the run.

    Attributes:
        is_interruptible: Whether a signal handler may raise an error now.
        missed_request: A function to call at the start of the next wait, set by a signal handler if the signal arrived
            between two waits; None otherwise.
    """

    is_interruptible = False
    missed_request: Callable[[], None] | None = None

    def begin(self) -> None:
        """Starts a wait. The wait ends immediately if a stop has already been requested."""
        self.is_interruptible = True
        if self.missed_request is not None:
            self.missed_request()


data_wait = DataWait()


class InterruptibleIterator:
    """Yields the batches of another iterator. A signal handler may interrupt the wait for each batch."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            data_wait.begin()
            return next(self._iterator)
        finally:
            data_wait.is_interruptible = False


class WorkerProgress:
    """Records the sample that each of `workers` workers is reading, in shared memory."""

    def __init__(self, workers: int) -> None:
        self._slots: Any = RawArray("q", workers * _FIELDS + 1)
        # Runs before multiprocessing terminates the remaining workers at exit.
        Finalize(self, _announce_exit, args=(self._slots,), exitpriority=100)

    @property
    def is_main_exiting(self) -> bool:
        """Whether the main process is exiting."""
        return bool(self._slots[-1])

    def record(self, worker: int, process: int, position: int, index: Any) -> None:
        """Records that a worker starts to read a sample."""
        start = worker * _FIELDS
        self._slots[start : start + _FIELDS] = (process, position + 1, index if isinstance(index, int) else -1)

    def sample_of(self, process: int) -> int | None:
        """Returns the index of the sample that a worker started to read last, or None if the process is unknown."""
        slots = list(self._slots[:-1])
        for start in range(0, len(slots), _FIELDS):
            if slots[start] == process and slots[start + 1]:
                return int(slots[start + 2])
        return None

    def processes(self) -> list[int]:
        """Returns the process ids of the workers that have started to read."""
        return [process for process in self._slots[:-1:_FIELDS] if process]


def _announce_exit(slots: Any) -> None:
    slots[-1] = 1
    # Torch's handler would raise an error for the workers that end now, in the middle of other exit handlers.
    if is_exiting() and hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class WorkerSetup:
    """Runs `functions` in a worker started with "spawn" or "forkserver", when it unpickles this object.

    Attributes:
        functions: The functions to call in workers. They must be picklable.
    """

    functions: ClassVar[list[Callable[[], object]]] = []

    def __init__(self, *calls: Callable[[], object]) -> None:
        for call in calls:
            call()

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerSetup, tuple(self.functions)


class WorkerInit:
    """Initializes a worker so that it ignores the signals that the main process handles for the whole run.

    The first SIGTERM is ignored, unless the main process is exiting. The second SIGTERM ends the worker. A worker that
    starts after the main process has died exits; torch ends only workers that ran before. `user_init` is the
    `worker_init_fn` of the loader.
    """

    def __init__(self, user_init: Callable[[int], None] | None, progress: WorkerProgress) -> None:
        get_temp_dir()  # workers need it to send batches; without it, batches would be lost silently
        self._user_init = user_init
        self._progress = progress
        self._first_term: float | None = None  # the time of the first SIGTERM

    def __call__(self, worker: int) -> None:
        """Initializes the worker with index `worker`."""
        main = multiprocessing.parent_process()
        method = getattr(multiprocessing.current_process(), "_start_method", None)
        if main is not None and method != "forkserver" and os.getppid() != main.pid:  # there, the parent is the server
            os._exit(1)
        for name in ("SIGINT", "SIGUSR1", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._ignore_once)
        if self._user_init is not None:
            self._user_init(worker)

    def _ignore_once(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        is_repeated = self._first_term is not None and now - self._first_term > _REPEAT_INTERVAL
        if self._progress.is_main_exiting or is_repeated:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._first_term = self._first_term or now


def explain_worker_death(error: Exception, loaders: Iterable[Any]) -> DataError | None:
    """Returns an error that names the sample that a dead worker was reading, or None if no worker has died.

    Also kills the other workers. Torch may raise its error about a dead worker at any point in the main process.

    Args:
        error: The error.
        loaders: The loaders that have workers.
    """
    if not isinstance(error, RuntimeError | EOFError | ConnectionError | FileNotFoundError):
        return None
    loaders = list(loaders)
    progress = _progress_of(loaders)
    message = f"{error} {error.__cause__ or ''}"  # torch may name the signal only in the cause
    timeout, explained = _TIMEOUT.search(message), None
    if timeout:
        samples = [each.sample_of(process) for each in progress for process in each.processes()]
        reading = ", ".join(str(index) for index in samples if index is not None)
        explained = DataError(
            f"the workers of the data loader returned no batch in {timeout[1]} s; they were reading samples {reading}",
            notes=["Increase the `timeout` of the data loader, or set it to 0 to wait without a limit."],
        )
    else:
        # Without torch's report, a worker may have died while it sent a batch.
        deaths = _parse_deaths(message) or (() if isinstance(error, RuntimeError) else _await_death(progress))
        for process, status in deaths:
            index = next((each.sample_of(process) for each in progress if process in each.processes()), None)
            if index is not None and explained is None:
                notes = [f"process {process}: {_describe_status(status)}"]
                name = signal.Signals(-status).name if status < 0 else "exit"
                notes += [_HINTS[name]] if name in _HINTS else []
                explained = DataError(f"a worker of the data loader died while it read sample {index}", notes=notes)
    if explained is not None:
        kill_workers(loaders)
        for note in getattr(error, "__notes__", ()):
            add_note(explained, note)
    return explained


def kill_workers(loaders: Iterable[Any]) -> None:
    """Kills the workers of loaders that are no longer used, since a worker that hangs would keep this process alive.

    A worker that hangs may not react to other signals. A dead worker may still hold the lock of the shared queue.
    """
    if not hasattr(signal, "SIGCHLD"):
        return
    # Torch's handler raises an error in the main thread when a worker dies.
    is_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_main_thread else None
    for progress in _progress_of(loaders):
        for process in progress.processes():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process, signal.SIGKILL)
                os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    if is_main_thread:
        signal.signal(signal.SIGCHLD, handler if handler is not None else signal.SIG_DFL)


def install_worker_death_handler() -> None:
    """Makes torch raise an error when a worker dies, even before the first pass with workers.

    Torch sets its handler once per process and does not notice if it is removed, for instance after a failed run.
    """
    if not callable(signal.getsignal(signal.SIGCHLD)):
        signal_handling._SIGCHLD_handler_set = False
    signal_handling._set_SIGCHLD_handler()


def is_worker_death(error: RuntimeError) -> bool:
    """Checks whether an error is torch's report of a dead worker."""
    return _PIDS.search(str(error)) is not None


def _progress_of(loaders: Iterable[Any]) -> list[WorkerProgress]:
    progress = (getattr(loader, "worker_progress", None) for loader in loaders)
    return [each for each in progress if each is not None]


def _parse_deaths(message: str) -> list[tuple[int, int]]:
    """Returns the ids of the dead workers in torch's message, with exit code or negated signal number."""
    processes, killed, exited = _PIDS.search(message), _SIGNAL.search(message), _EXIT_CODE.search(message)
    status = int(exited[1]) if exited else 0
    if killed:
        numbers = [-number for number in signal.Signals if signal.strsignal(number) == killed[1].strip()]
        status = next(iter(numbers), status)
    return [(int(process), status) for process in processes[1].split(",")] if processes else []


def _await_death(progress: Sequence[WorkerProgress]) -> list[tuple[int, int]]:
    """Returns the id and the status of a worker that is dead or dies within seconds, as `_parse_deaths` does."""
    deadline = time.monotonic() + _DEATH_DELAY
    try:
        while hasattr(os, "waitid") and time.monotonic() < deadline:
            for process in [process for each in progress for process in each.processes()]:
                with contextlib.suppress(ChildProcessError):
                    death = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG)
                    if death:
                        return [(process, death.si_status * (1 if death.si_code == os.CLD_EXITED else -1))]
            time.sleep(0.01)
    except RuntimeError as error:  # torch's own report, which can be raised at any point
        return _parse_deaths(str(error))
    return []


def _describe_status(status: int) -> str:
    if status >= 0:
        return f"exited with code {status}"
    return f"killed by {signal.Signals(-status).name} ({signal.strsignal(-status)})"
