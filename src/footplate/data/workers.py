"""Manages worker processes: handles signals, detects dead workers, and finds the samples they were reading."""

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from multiprocessing.sharedctypes import RawArray
from multiprocessing.util import Finalize, get_temp_dir, is_exiting
from types import FrameType
from typing import Any, ClassVar

import cv2

from footplate.data.rng import seed_albumentations
from footplate.error_context import add_note
from footplate.errors import DataError
from footplate.interrupts import REPEAT_INTERVAL

# Parts of error messages from torch.
_PIDS = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_TIMEOUT = re.compile(r"DataLoader timed out after ([\d.]+) seconds")
_SIGNAL = re.compile(r"killed by signal: ([^.\n]+)")
_HINTS = {
    "Killed": "The machine may have run out of memory. Use fewer workers.",
    "Bus error": "Shared memory (/dev/shm) may be full. Use fewer workers or a lower prefetch_factor.",
}
_CRASHED = "To locate a crash in compiled code, read the sample with num_workers=0 and `python -X faulthandler`."


class WorkerProgress:
    """Records in shared memory which sample each worker is reading. `workers` is the number of workers."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._slots: Any = RawArray("q", 2 * workers + 1)  # process ids, sample indices, exit flag of the main process
        # Runs before multiprocessing terminates the remaining workers at exit.
        Finalize(self, _announce_exit, args=(self._slots,), exitpriority=100)

    @property
    def is_main_exiting(self) -> bool:
        """Whether the main process is exiting."""
        return bool(self._slots[-1])

    def begin(self, worker: int) -> None:
        """Records the process id of the worker with index `worker`. Called in the worker process."""
        self._slots[worker] = os.getpid()
        self.record(worker, None)

    def record(self, worker: int, index: Any) -> None:
        """Records that a worker has started reading a sample."""
        self._slots[self._workers + worker] = index if isinstance(index, int) else -1

    def samples(self) -> dict[int, int]:
        """Returns a dict that maps each worker's process id to the index of the sample it is reading or last read.

        The index is -1 if the worker has not read a sample yet, or if the index is not an integer.
        """
        slots = zip(self._slots[: self._workers], self._slots[self._workers : -1], strict=True)
        return {process: index for process, index in slots if process}


def _announce_exit(slots: Any) -> None:
    slots[-1] = 1
    # Workers end now, and torch's handler would raise an error in the middle of other exit handlers.
    if is_exiting() and hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _exit_if_orphaned() -> None:
    """Exits this worker process if its main process has died."""
    main = multiprocessing.parent_process()
    method = getattr(multiprocessing.current_process(), "_start_method", None)
    # with forkserver, the parent is the server, so the parent's id says nothing about the main process
    if main is not None and method != "forkserver" and os.getppid() != main.pid:
        os._exit(1)


class WorkerSetup:
    """Runs `functions` when it is unpickled in a worker that was started with "spawn" or "forkserver".

    Attributes:
        functions: The functions to call in workers. They must be picklable.
    """

    functions: ClassVar[list[Callable[[], object]]] = []

    def __init__(self, *calls: Callable[[], object]) -> None:
        for call in calls:
            call()

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerSetup, tuple(self.functions)


_opencv_threads = 1  # their number before a fork


def _end_opencv_threads() -> None:
    """Ends OpenCV's threads: a forked process has none, and would wait for them when it changes their number."""
    global _opencv_threads
    _opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_end_opencv_threads, after_in_parent=lambda: cv2.setNumThreads(_opencv_threads))


class WorkerInit:
    """Makes a worker ignore the signals that the main process handles, and calls the loader's `worker_init_fn`.

    OpenCV uses `opencv_threads` threads in a worker.

    Does not seed the worker; see `BatchReader`.

    The first SIGTERM is ignored unless the main process is exiting; the second one ends the worker. If the main process
    died before the worker started, the worker exits: torch only detects this in running workers.
    """

    opencv_threads: ClassVar[int] = 1

    def __init__(self, user_init: Callable[[int], None] | None, progress: WorkerProgress) -> None:
        self._opencv_threads = self.opencv_threads  # a spawned worker has the default
        get_temp_dir()  # fails early: without a temporary folder, workers would silently lose batches
        self._user_init = user_init
        self._progress = progress
        self._first_term = 0.0  # the time of the first SIGTERM

    def __call__(self, worker: int) -> None:
        """Initializes the worker with index `worker`."""
        _exit_if_orphaned()
        cv2.setNumThreads(self._opencv_threads)
        for name in ("SIGINT", "SIGUSR1", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._ignore_once)
        # If the main process was killed, the worker would block forever on a full pipe.
        Finalize(None, _exit_if_orphaned, exitpriority=0)
        seed_albumentations()  # a spawned worker has imported it again
        if self._user_init is not None:
            self._user_init(worker)
        self._progress.begin(worker)

    def _ignore_once(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._first_term = self._first_term or now
        if self._progress.is_main_exiting or now - self._first_term > REPEAT_INTERVAL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def explain_worker_death(error: Exception, loaders: Collection[Any]) -> DataError | None:
    """Kills all workers, and returns an error that identifies the samples that dead or hung workers were reading.

    Returns None, without killing workers, if `error` has another cause.

    Args:
        error: An error from torch's DataLoader.
        loaders: The loaders with workers.
    """
    if not isinstance(error, RuntimeError):
        return None
    samples = {
        process: index
        for loader in _with_workers(loaders)
        for process, index in loader.worker_progress.samples().items()
    }
    message = f"{error} {error.__cause__ or ''}"  # torch may mention the signal only in the cause
    explained = _explain(message, samples)
    if explained is not None:
        kill_workers(loaders)
        for note in getattr(error, "__notes__", ()):
            add_note(explained, note)
    return explained


def kill_workers(loaders: Iterable[Any]) -> None:
    """Kills the workers of loaders, so that a hung worker cannot keep this process alive.

    The next pass over a loader starts new workers. Uses SIGKILL, because a worker ignores all other signals while it
    waits for a lock, for example if the process that held the lock of a queue has died.
    """
    if not hasattr(signal, "SIGCHLD"):
        return
    import psutil  # type: ignore[import-untyped, unused-ignore]

    # Disable torch's handler, which raises an error in the main thread when a worker dies.
    is_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_main_thread else None
    for loader in _with_workers(loaders):
        for process in loader.worker_progress.samples():
            with contextlib.suppress(psutil.NoSuchProcess):
                worker = psutil.Process(process)
                worker.kill()
                while worker.status() != psutil.STATUS_ZOMBIE:  # macOS has no os.waitid before Python 3.13
                    time.sleep(0.001)
        loader.forget_workers()
    if is_main_thread:
        signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)


def is_worker_death(error: RuntimeError) -> bool:
    """Checks whether torch raised an error because a worker died."""
    return _PIDS.search(str(error)) is not None


def _with_workers(loaders: Iterable[Any]) -> list[Any]:
    return [loader for loader in loaders if getattr(loader, "worker_progress", None) is not None]


def _explain(message: str, samples: Mapping[int, int]) -> DataError | None:
    """Converts torch's message about hung or dead workers to an error that identifies the samples they were reading.

    Returns None if the message is not about one of these workers.
    """
    if timeout := _TIMEOUT.search(message):
        begun = ", ".join(str(index) for index in samples.values() if index >= 0) or "unknown"
        return DataError(
            f"the data loader's workers returned no batch within {timeout[1]} s (last samples begun: {begun})",
            notes=["Increase the data loader's `timeout`, or set it to 0 to wait indefinitely."],
        )
    processes = _PIDS.search(message)
    numbers = map(int, processes[1].split(",")) if processes else ()
    process = next((number for number in numbers if number in samples), None)
    if process is None:
        return None
    reason = "exited without an exception, for example through os._exit() or a crash"
    hint = _CRASHED
    if killed := _SIGNAL.search(message):
        name = killed[1].strip()
        reason = f"killed by a signal: {name}"
        hint = _HINTS.get(name, _CRASHED)
    sample = samples[process] if samples[process] >= 0 else "unknown"
    message = f"a data loader worker died (last sample begun: {sample})"
    return DataError(message, notes=[f"process {process}: {reason}", hint])
