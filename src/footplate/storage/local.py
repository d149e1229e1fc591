"""File operations on local paths: atomic writes and durable removals."""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import IO, Any

from footplate.storage.sink import DescriptorSink, Sink

try:
    import fcntl
except ImportError:  # without advisory locks, stale temporary files are kept
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".partial"
_TEMPORARY_NAME = re.compile(
    r"\..*\.[0-9a-f]{8}\.partial", re.DOTALL
)  # specific, because other programs use .partial too
_MAX_NAME_BYTES = 200
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_KINDS = (
    ("a pipe", stat.S_ISFIFO),
    ("a socket", stat.S_ISSOCK),
    ("a device", stat.S_ISCHR),
    ("a device", stat.S_ISBLK),
)
_FOLDER_SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


def open_file(path: str, mode: str, encoding: str | None) -> IO[Any]:
    """Opens a regular file. Does not block on a pipe that has no writer.

    Raises:
        OSError: The file cannot be opened or is not a regular file.
    """
    return open(path, mode, encoding=encoding, opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a pipe without a reader
            raise _not_regular(os.stat(path).st_mode, path) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # open() itself reports a folder
        return descriptor
    os.close(descriptor)
    raise _not_regular(mode, path)


def _not_regular(mode: int, path: str) -> OSError:
    name = next((name for name, matches in _KINDS if matches(mode)), "a special file")
    return OSError(errno.EINVAL, f"it is {name}, not a regular file", path)


def commit(path: str, write: Callable[[Sink], None]) -> None:
    """Writes a temporary file in the same folder, syncs it, renames it to `path` and syncs the folder.

    Raises:
        OSError: A step failed. The previous file is untouched.
    """
    with _with_file_name(path):
        _commit(path, write)


def _commit(path: str, write: Callable[[Sink], None]) -> None:
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EEXIST, "it is a folder or a device", path)
    os.makedirs(folder, exist_ok=True)
    temporary, descriptor = _open_temporary(folder, name)
    try:
        try:
            sink = DescriptorSink(descriptor)
            write(sink)
            sink.flush()
            os.fsync(descriptor)
            os.replace(temporary, path)
        finally:
            os.close(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def remove(path: str) -> None:
    """Removes a file if it exists, and syncs its folder.

    Raises:
        OSError: The file cannot be removed.
    """
    with _with_file_name(path), contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_folder(os.path.dirname(os.path.abspath(path)))


def remove_empty_folder(folder: str) -> None:
    """Removes an empty folder if it exists, and syncs its parent.

    Raises:
        OSError: The folder is not empty or cannot be removed.
    """
    with _with_file_name(folder), contextlib.suppress(FileNotFoundError):
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


def clean_stale(folder: str) -> list[str]:
    """Removes temporary files that dead processes left, and returns their paths.

    A living writer holds a lock on its temporary file. The operating system releases it when the process dies.

    Raises:
        OSError: The folder cannot be read.
    """
    return [path for path in _partial_files(folder) if _remove_unlocked(path)]


@contextlib.contextmanager
def _with_file_name(path: str) -> Iterator[None]:
    """Adds the file name to errors of calls that only know a descriptor."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def _open_temporary(folder: str, name: str) -> tuple[str, int]:
    while True:
        temporary = os.path.join(folder, f".{_truncated(name)}.{secrets.token_hex(4)}{_SUFFIX}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if not fcntl:
            return temporary, descriptor
        with contextlib.suppress(OSError):  # file systems without locks; `clean_stale` removes nothing there
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_unlinked(descriptor):
            return temporary, descriptor
        os.close(descriptor)  # another process removed the file as stale before it was locked


def _truncated(name: str) -> str:
    return os.fsencode(name)[:_MAX_NAME_BYTES].decode("utf-8", "ignore")


def _is_unlinked(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_nlink == 0
    except OSError:
        return False


def _partial_files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY_NAME.fullmatch(entry.name):
                yield entry.path


def _remove_unlocked(path: str) -> bool:
    if not fcntl:
        return False
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
