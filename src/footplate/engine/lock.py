"""One run in a work_dir at a time."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator

from footplate.errors import ArgumentError

try:
    import fcntl
except ImportError:  # a platform without advisory locks: nothing is refused there
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger("footplate.engine")
_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Holds the lock of a folder while the block runs; the operating system drops it when this process dies.

    Args:
        folder: A local folder; it is made if it is not there.

    Raises:
        ArgumentError: Another process holds it; names that process.
    """
    if fcntl is None:
        yield
        return
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, _NAME)
    descriptor = _opened(path, folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)  # while it is still ours
        _close(descriptor)


def _opened(path: str, folder: str) -> int:
    """Opens and locks the file that is at `path` when it is locked: a run that ends removes its own."""
    while True:
        # A lock of the process, not of the open file: workers that outlive it do not inherit this one.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _take(descriptor, folder)
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None:
                error.filename = path
            _close(descriptor)
            raise
        _close(descriptor)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # it is closed all the same, and how the run ends counts more
        os.close(descriptor)


def _take(descriptor: int, folder: str) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
        raise ArgumentError(
            f"another run is at work in '{folder}'",
            key="work_dir",
            notes=[*([holder] if holder else []), "give this one a work_dir of its own, or end the other"],
        ) from None
    except OSError as error:  # a file system without locks
        _logger.warning("'%s' cannot be locked (%s): two runs in it are not noticed", folder, error.strerror)
        return
    holder = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)
