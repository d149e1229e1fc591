"""Writes local files atomically, removes them durably, and refuses to open pipes and devices."""

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from typing import IO, Any, Protocol, TypeAlias

from filelock import FileLock

Data: TypeAlias = "bytes | bytearray | memoryview"

_BUFFER_BYTES = 1 << 20
# Specific, because other programs use .partial too.
_TEMPORARY_NAME = re.compile(r"\..*\.[0-9a-f]{8}\.partial", re.DOTALL)
_MAX_NAME_BYTES = 200
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_STALE_SECONDS = 600.0
_FOLDER_SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


class Sink(Protocol):
    """A destination to which bytes are written sequentially."""

    def write(self, data: Data, /) -> int:
        """Writes all of `data` and returns its number of bytes."""
        ...

    def flush(self) -> None:
        """Writes out the buffer."""
        ...


class DescriptorSink:
    """Buffers small writes to a file descriptor. Does not close it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()

    def write(self, data: Data, /) -> int:
        """Writes `data`. Large data is not copied.

        Raises:
            OSError: Writing failed.
        """
        size = memoryview(data).nbytes
        if len(self._buffer) + size < _BUFFER_BYTES:
            self._buffer += data
            return size
        buffer, self._buffer = self._buffer, bytearray()
        for piece in (memoryview(buffer), memoryview(data).cast("B")):
            while len(piece):
                piece = piece[os.write(self._descriptor, piece) :]
        return size

    def flush(self) -> None:
        """Writes the buffer to the file descriptor.

        Raises:
            OSError: Writing failed.
        """
        while self._buffer:
            del self._buffer[: os.write(self._descriptor, self._buffer)]


def open_file(path: str, mode: str, encoding: str | None) -> IO[Any]:
    """Opens a regular file. Does not block on a pipe that has no writer.

    Raises:
        OSError: The file cannot be opened or is not a regular file.
    """

    def open_regular(path: str, flags: int) -> int:
        descriptor = os.open(path, flags | _NONBLOCK, 0o666)
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):  # open() itself reports a folder
            return descriptor
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)

    return open(path, mode, encoding=encoding, opener=open_regular)


@contextlib.contextmanager
def atomic_local_file(path: str) -> Iterator[Sink]:
    """Yields a sink for a temporary file in the same folder, then syncs it, renames it and syncs the folder.

    Raises:
        OSError: A step failed. The previous file is unchanged.
    """
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EEXIST, "it is a folder or a device", path)
    with _with_file_name(path):
        os.makedirs(folder, exist_ok=True)
        short = os.fsencode(name)[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
        temporary = os.path.join(folder, f".{short}.{secrets.token_hex(4)}.partial")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            sink = DescriptorSink(descriptor)
            yield sink
            sink.flush()
            os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        sync_folder(folder)


def remove(path: str) -> None:
    """Removes a file if it exists, and syncs its folder.

    Raises:
        OSError: The file cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_folder(os.path.dirname(os.path.abspath(path)))


def remove_empty_folder(folder: str) -> None:
    """Removes an empty folder if it exists, and syncs its parent.

    Raises:
        OSError: The folder is not empty or cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)
        sync_folder(os.path.dirname(os.path.abspath(folder)))


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
    """Returns an exclusive lock for `path`, across processes and threads, to use in a `with` statement.

    The lock is a hidden file in the same folder, which is created. The file remains, because removing it could let two
    processes in.

    Raises:
        OSError: The folder of `path` cannot be created.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    return FileLock(os.path.join(folder, f".{name}.lock"))


def clean_stale(folder: str) -> list[str]:
    """Removes temporary files without a write in the last ten minutes, and returns their paths.

    Raises:
        OSError: The folder cannot be read.
    """
    removed = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                is_stale = time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS
                if is_stale and _TEMPORARY_NAME.fullmatch(entry.name):
                    os.unlink(entry.path)
                    removed.append(entry.path)
    return removed


@contextlib.contextmanager
def _with_file_name(path: str) -> Iterator[None]:
    """Adds the file name to errors of calls that receive only a file descriptor."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = path
        raise
