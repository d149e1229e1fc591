"""Folders of runs: the lock that allows one run per folder, and what an earlier run or a restart leaves there."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from footplate import storage
from footplate.distributed import broadcast_object, is_main_process
from footplate.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

try:
    import fcntl
except ImportError:  # no advisory locks on this platform, so two runs in one folder are not refused
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger("footplate.engine")
_LOCK = ".lock"
_SETTINGS = {"work_dir": "another work_dir", "default_hooks.checkpoint.out_dir": "another work_dir or out_dir"}
_STARTED_FROM = ".began_with"
_MAX_BYTES = 1 << 16  # of a pointer file


@contextlib.contextmanager
def locked(folder: str, key: str = "work_dir") -> Iterator[Callable[[], None]]:
    """Holds the lock of a folder during the block. The operating system releases it if this process dies.

    Yields a function that raises a CheckpointError if another run has created and locked a new folder at this path.

    Args:
        folder: A local folder, which is created if needed.
        key: The config key of the folder, for the error.

    Raises:
        ArgumentError: Another process holds it; names that process.
    """
    if fcntl is None:
        yield lambda: None
        return
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, _LOCK)
    descriptor, process = _open_and_lock(path, folder, key), os.getpid()

    def check() -> None:
        if os.path.exists(path) and not _is_at(path, descriptor):
            raise CheckpointError(
                f"The folder '{folder}' was moved or removed, and another run has created it again. Nothing is saved "
                "there.",
                key=key,
            )

    try:
        yield check
    finally:
        if os.getpid() == process:  # not in a child process that was forked within the block
            with contextlib.suppress(OSError):
                if _is_at(path, descriptor):  # otherwise another run has recreated the folder
                    os.unlink(path)  # while the lock is still held
            _close(descriptor)


@contextlib.contextmanager
def locked_for(runner: "Runner") -> Iterator[None]:
    """Locks the folders that belong to one run alone: its work_dir and the folders of its checkpoints.

    Raises:
        ArgumentError: Another process holds one; names that process.
    """
    with contextlib.ExitStack() as stack:
        checks = [stack.enter_context(locked(runner.work_dir))]
        folders = [hook.folder_in(runner) for hook in runner.hooks if hasattr(hook, "folder_in")]
        for folder in {storage.absolute(each) for each in folders if storage.is_local(each)} - {runner.work_dir}:
            with contextlib.suppress(OSError):  # an unusable folder is reported when a save fails
                checks.append(stack.enter_context(locked(folder, "default_hooks.checkpoint.out_dir")))
        runner.saver.checks = checks
        yield


def _open_and_lock(path: str, folder: str, key: str) -> int:
    """Opens and locks the lock file, and repeats this if a run that ended has removed the file in between."""
    while True:
        # The lock belongs to the process, not to the open file, so workers that outlive the process do not hold it.
        # Links are not followed, because the file that one points to would be overwritten.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(descriptor, folder, key)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None:
                error.filename = path
            _close(descriptor)
            raise
        _close(descriptor)


def _lock(descriptor: int, folder: str, key: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        raise ArgumentError(
            f"Another run uses the folder '{folder}'.",
            key=key,
            notes=[*([holder] if holder else []), f"Use {_SETTINGS[key]}, or end the other run."],
        ) from None
    except OSError as error:  # a file system that does not support locks
        _logger.warning(
            "The folder '%s' cannot be locked (%s). A second run in it would not be noticed.", folder, error.strerror
        )
        return
    holder = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)


def _is_at(path: str, descriptor: int) -> bool:
    return os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path))


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the descriptor is closed anyway, and the run's own error matters more
        os.close(descriptor)


class Restart:
    """Selects the checkpoint with which a run that torchrun restarts begins: the last one that it has committed itself.

    A run that starts over records which checkpoint the pointer file in its folder names. If the run fails before its
    first checkpoint, its restart then does not resume from that checkpoint, which is from an earlier run.

    Args:
        home: The folder of the checkpoints.
        work_dir: The local folder of the run.
    """

    def __init__(self, home: str, work_dir: str) -> None:
        self._home, self._record_path = home, os.path.join(work_dir, _STARTED_FROM)
        names = ("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")
        texts = [os.environ.get(name, "") for name in names]
        self._count, self._most = (int(text) if text.isdigit() else 0 for text in texts)
        self._resumes = False

    def begins_with(self, load_from: str | None, resume: bool | str) -> tuple[str | None, bool | str]:
        """Returns the `load_from` and `resume` that apply. All ranks must call it."""
        self._resumes = bool(resume)
        if not self._count:
            if is_main_process() and resume and (load_from is None or resume == "auto"):
                recorded = self._recorded()
                if recorded and recorded == self._pointer():
                    _logger.warning(
                        "%s: the latest run in this folder started over and saved no checkpoint. An earlier run is "
                        "resumed. To start over, leave out resume.",
                        self._home,
                    )
            return load_from, resume
        pointer = broadcast_object(self._pointer())
        if not pointer or (not resume and broadcast_object(self._recorded()) == pointer):
            _logger.warning(
                "Restart %d of %d by torchrun: the run starts over, because it has saved no checkpoint.",
                self._count,
                self._most,
            )
            return load_from, resume
        self._resumes = True
        _logger.warning(
            "Restart %d of %d by torchrun: the run resumes from its last checkpoint.", self._count, self._most
        )
        return None, True

    def record(self) -> None:
        """Records the current pointer when a run starts over in a folder that an earlier run has used."""
        if self._count or self._resumes or not is_main_process():
            return
        pointer = self._pointer()
        if pointer or self._most:
            with contextlib.suppress(OSError):
                storage.commit_bytes(self._record_path, os.fsencode(pointer))

    def _recorded(self) -> str:
        try:
            return os.fsdecode(storage.read_bytes(self._record_path, _MAX_BYTES))
        except OSError:
            return ""

    def _pointer(self) -> str:
        """Returns content and time of the pointer file: a later checkpoint may have the same name."""
        path = storage.join(self._home, "last_checkpoint")
        try:
            content = os.fsdecode(storage.read_bytes(path, _MAX_BYTES))
        except OSError:
            return ""
        return f"{content} {storage.status(path).modified}"
