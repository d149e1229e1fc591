"""Manages a run's folder: its names, logs and locks.

`work_dir` contains the logs and the lock. Checkpoints are saved to `home`, which is `work_dir` or a remote folder.
"""

import contextlib
import errno
import itertools
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from footplate import storage
from footplate.config import Config
from footplate.distributed import (
    broadcast_object,
    compute_on_main,
    ignored_launcher,
    is_main_process,
)
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.records import (
    buffer_log,
    is_written_config,
    write_config,
)
from footplate.storage import commit_bytes
from footplate.storage.local_files import RUN_LOCK

_logger = logging.getLogger("footplate.engine")
_LOCKS_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def folders_of(work_dir: str) -> tuple[str, str]:
    """Returns the checkpoint folder, which may be remote, and the local folder for the logs and the lock.

    Raises:
        ArgumentError: The storage protocol of `work_dir` is unknown or not installed.
    """
    home = storage.absolute(work_dir)
    if storage.is_local(work_dir):
        return home, home
    storage.file_system(work_dir)  # checks the protocol
    return home.rstrip("/"), os.path.abspath(os.path.join("work_dirs", storage.base_name(home.rstrip("/"))))


def unused_name(work_dir: str) -> str:
    """Returns an unused folder name in `work_dir`: the current time, plus a number if needed."""
    now = time.strftime("%Y%m%d_%H%M%S")
    names = itertools.chain([now], (f"{now}_{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(os.path.join(work_dir, name)))


def create_log_folder(work_dir: str, name: str) -> str:
    """Creates the log folder of a run and returns its name. If `name` is already taken, picks another one.

    The log file shows that a name is taken, because a writer may have created this run's folder.
    """
    while True:
        os.makedirs(os.path.join(work_dir, name), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            Path(work_dir, name, f"{name}.log").touch(exist_ok=False)
            return name
        name = unused_name(work_dir)


class RunFolder:
    """The checkpoint and log folders of a run.

    Args:
        work_dir: The run's folder; see `Runner`.

    Attributes:
        home: The checkpoint folder, which may be remote.
        work_dir: The local folder for the logs and the lock.
        timestamp: The start time, which is also the name of the log folder.
        records: Log records that will be written when the log file is opened.
        is_checked: Whether the run has checked that the folder contains no checkpoints of other runs.
    """

    def __init__(self, work_dir: str) -> None:
        with at_key("work_dir"):
            self.home, self.work_dir = folders_of(work_dir)
        self.timestamp: str = broadcast_object(unused_name(self.work_dir))
        self.records: list[logging.LogRecord] = []
        self._is_created = False  # whether this run has created its log folder
        self.is_checked = False

    @property
    def log_dir(self) -> str:
        """The run's log folder: `timestamp` in `work_dir`."""
        return os.path.join(self.work_dir, self.timestamp)

    @contextlib.contextmanager
    def buffered_log(self) -> Iterator[None]:
        """Buffers the log records emitted inside the block until the log file is open."""
        with buffer_log() as records:
            yield
        self.records += records

    def create(self) -> None:
        """Creates the log folder. Picks a new name if another run has already created a folder with the same name."""
        if not self._is_created:
            self._is_created = True
            self.timestamp = compute_on_main(lambda: create_log_folder(self.work_dir, self.timestamp))

    def write_config(self, cfg: Config) -> None:
        """Writes the config to the work_dir if it was loaded from a file.

        If a file with this name already exists in the work_dir and was written or edited by a user, writes the config
        to the log folder instead.
        """
        if not cfg.filename:
            return
        name = f"{Path(cfg.filename).stem}.py"
        path = os.path.join(self.work_dir, name)
        inside = os.path.join(self.log_dir, name)
        if os.path.lexists(path) and not is_written_config(path):
            _logger.warning(
                "Keeping '%s', which has been edited or was not written by a run. Writing the config to '%s' instead.",
                path,
                inside,
            )
            path = inside
        write_config(cfg, path, signed=True)

    def record_stop(self, reason: str, iteration: int) -> None:
        """Adds why and when training ended early to `start.json`, which LoggerHook has written, if it exists."""
        if not self._is_created:
            return  # the folder may be another run's
        path = os.path.join(self.log_dir, "start.json")
        with contextlib.suppress(OSError):  # also if the disk is full, which must not hide the reason
            record = json.loads(Path(path).read_bytes())
            commit_bytes(path, json.dumps({**record, "stopped_by": reason, "stopped_at": iteration}).encode())

    def remove_failed_start(self) -> None:
        """Removes the log folder, and the work_dir if it is then empty."""
        if self._is_created and is_main_process():
            shutil.rmtree(self.log_dir, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.rmdir(self.work_dir)


@contextlib.contextmanager
def locked(folder: str, key: str = "work_dir") -> Iterator[None]:
    """Locks a folder for the duration of the block. If the process dies, the operating system releases the lock.

    If the file system does not support locks, only logs a warning.

    Args:
        folder: A local folder. It is created if it does not exist.
        key: The config key of the folder, for the error message.

    Raises:
        ArgumentError: The folder is not writable or is locked by another process. The message identifies that process.
    """
    path = os.path.join(folder, RUN_LOCK)
    lock = FileLock(path, timeout=0.5, fallback_to_soft=False)  # `is_locked` locks it for a moment
    try:
        os.makedirs(folder, exist_ok=True)
        lock.acquire()
    except Timeout:
        advice = "Use another folder, or stop the other run."
        if launcher := ignored_launcher():
            advice = f"If both processes belong to the same run, set launcher='{launcher}'."
        notes = [advice]
        with contextlib.suppress(FileNotFoundError):  # the other run has just ended
            notes.insert(0, Path(path).read_text("utf-8", "replace"))
        raise ArgumentError(f"another run is using the folder '{folder}'", key=key, notes=notes) from None
    except OSError as error:
        if error.errno not in _LOCKS_UNSUPPORTED:
            raise ArgumentError(f"cannot write to '{error.filename or folder}': {error.strerror}", key=key) from error
        _logger.warning(
            "The folder '%s' cannot be locked (%s). A second run in it would not be detected.", folder, error.strerror
        )
        yield
        return
    process = os.getpid()
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    Path(path).write_text(f"process {process} on {socket.gethostname()}, since {now}", encoding="utf-8")
    try:
        yield
    finally:
        if os.getpid() == process:  # not in a child process that was forked inside the block
            with contextlib.suppress(OSError):
                os.unlink(path)  # while the lock is still held
            lock.release()
