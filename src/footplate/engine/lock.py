"""Locks that ensure that only one run at a time uses a work_dir."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from footplate import storage
from footplate.errors import ArgumentError, CheckpointError

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

try:
    import fcntl
except ImportError:  # no advisory locks on this platform, so nothing is refused
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger("footplate.engine")
_NAME = ".lock"
_OWN = {"work_dir": "a work_dir", "default_hooks.checkpoint.out_dir": "a work_dir or out_dir"}


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
    path = os.path.join(folder, _NAME)
    descriptor, process = _opened(path, folder, key), os.getpid()

    def check() -> None:
        if os.path.exists(path) and not _is_at(path, descriptor):
            raise CheckpointError(
                f"folder '{folder}' was moved or removed, and another run has made it anew; nothing is saved there",
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
        places = [hook.folder_in(runner) for hook in runner.hooks if hasattr(hook, "folder_in")]
        for folder in {storage.absolute(each) for each in places if storage.is_local(each)} - {runner.work_dir}:
            with contextlib.suppress(OSError):  # an unusable folder is reported when a save fails
                checks.append(stack.enter_context(locked(folder, "default_hooks.checkpoint.out_dir")))
        runner.saver.checks = checks
        yield


def _opened(path: str, folder: str, key: str) -> int:
    """Opens and locks the lock file, and repeats this if a run that ended has removed the file in between."""
    while True:
        # The lock belongs to the process, not to the open file, so workers that outlive the process do not hold it.
        # Links are not followed, because the file that one points to would be overwritten.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _take(descriptor, folder, key)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None:
                error.filename = path
            _close(descriptor)
            raise
        _close(descriptor)


def _is_at(path: str, descriptor: int) -> bool:
    return os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path))


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the descriptor is closed anyway, and the run's own error matters more
        os.close(descriptor)


def _take(descriptor: int, folder: str, key: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        raise ArgumentError(
            f"another run is at work in '{folder}'",
            key=key,
            notes=[*([holder] if holder else []), f"give this one {_OWN[key]} of its own, or end the other"],
        ) from None
    except OSError as error:  # a file system that does not support locks
        _logger.warning("'%s' cannot be locked (%s): two runs in it are not noticed", folder, error.strerror)
        return
    holder = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)
