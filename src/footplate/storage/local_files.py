"""Writes local files atomically, syncs folders, and locks files."""

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from typing import IO

from filelock import FileLock

RUN_LOCK = ".lock"  # the file that a run locks in its folders
_BUFFER_BYTES = 1 << 20
# A specific suffix, because other programs also use .partial.
_TEMPORARY_NAME = re.compile(r"\..*\.[0-9a-f]{8}\.partial", re.DOTALL)
_MAX_NAME_BYTES = 200
_STALE_SECONDS = 600.0
_FOLDER_SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


@contextlib.contextmanager
def atomic_local_file(path: str) -> Iterator[IO[bytes]]:
    """Opens a temporary file in the folder of `path`, and renames it to `path` at the end of the block.

    If the block raises an exception, removes the temporary file instead. Creates missing folders. Syncs the file before
    renaming it, and the folder afterwards.

    Raises:
        OSError: A step failed. The previous file is unchanged, unless only the last step, syncing the folder, failed.
    """
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EEXIST, "it is a folder or a device", path)
    os.makedirs(folder, exist_ok=True)
    short = os.fsencode(name)[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    temporary = os.path.join(folder, f".{short}.{secrets.token_hex(4)}.partial")
    try:
        with open(temporary, "xb", buffering=_BUFFER_BYTES) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, temporary):
            error.filename = path  # errors from writing do not contain the file name
        raise
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Syncs a folder, so that renames and removals in it survive a power loss.

    Does nothing on file systems that cannot sync folders.

    Raises:
        OSError: Syncing failed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _FOLDER_SYNC_UNSUPPORTED:
            raise


def lock(path: str) -> FileLock:
    """Returns an exclusive lock for `path` across processes and threads, as a context manager.

    The lock is a hidden file in the same folder, which is created if necessary. The file is never removed, because
    removing it could allow two processes to acquire the lock.

    Raises:
        OSError: The folder of `path` cannot be created.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    return FileLock(os.path.join(folder, f".{name}.lock"))


def is_locked(path: str) -> bool:
    """Checks whether another process has locked an existing file. Returns False if this cannot be determined."""
    try:
        import fcntl  # not available on Windows

        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ImportError):
        return False
    return False


def clean_stale(folder: str) -> None:
    """Removes temporary files that have not been written to for ten minutes.

    Raises:
        OSError: The folder cannot be read.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                is_stale = time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS
                if is_stale and _TEMPORARY_NAME.fullmatch(entry.name):
                    os.unlink(entry.path)
