"""Committing files to a local folder: whole under their name, or not there."""

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
except ImportError:  # a platform without advisory locks keeps abandoned files
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".partial"
_ASIDE = re.compile(r"\..*\.[0-9a-f]{8}\.partial", re.DOTALL)  # others have hidden files that end so, too
_LONGEST_NAME = 200  # bytes
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)
_KINDS = (
    ("a pipe", stat.S_ISFIFO),
    ("a socket", stat.S_ISSOCK),
    ("a device", stat.S_ISCHR),
    ("a device", stat.S_ISBLK),
)
_FOLDER_SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


def open_file(path: str, mode: str, encoding: str | None) -> IO[Any]:
    """Opens a file; a pipe, at which nobody may ever write, is not waited for.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    return open(path, mode, encoding=encoding, opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _AT_ONCE, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a pipe to write into that nobody reads
            raise _irregular(os.stat(path).st_mode, path) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # of a folder Python says it
        return descriptor
    os.close(descriptor)
    raise _irregular(mode, path)


def _irregular(mode: int, path: str) -> OSError:
    name = next((name for name, is_it in _KINDS if is_it(mode)), "nothing that can be read")
    return OSError(errno.EINVAL, f"it is {name}, not a regular file", path)


def commit(path: str, write: Callable[[Sink], None]) -> None:
    """Writes a file aside in the same folder, syncs it, renames it to `path` and syncs the folder.

    Raises:
        OSError: Anything failed; what `path` held before is still there.
    """
    with _naming(path):
        _commit(path, write)


def _commit(path: str, write: Callable[[Sink], None]) -> None:
    folder, name = os.path.split(os.path.abspath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EEXIST, "it is a folder or a device", path)
    os.makedirs(folder, exist_ok=True)
    aside, descriptor = _open_aside(folder, name)
    try:
        try:
            sink = DescriptorSink(descriptor)
            write(sink)
            sink.flush()
            os.fsync(descriptor)
            os.replace(aside, path)
        finally:
            os.close(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    sync_folder(folder)


def remove(path: str) -> None:
    """Removes a file and syncs its folder; a file that is gone already is no error.

    Raises:
        OSError: It cannot be removed.
    """
    with _naming(path), contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_folder(os.path.dirname(os.path.abspath(path)))


def remove_empty_folder(folder: str) -> None:
    """Removes an empty folder and syncs its parent; a folder that is gone already is no error.

    Raises:
        OSError: It is not empty, or cannot be removed.
    """
    with _naming(folder), contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)
        sync_folder(os.path.dirname(os.path.abspath(folder)))


def sync_folder(folder: str) -> None:
    """Makes renames and removals in `folder` survive a loss of power, where the file system can.

    Raises:
        OSError: The system could not write them.
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
    """Removes files that a dead process left half written, and returns their paths.

    A living writer holds a lock on its file, which the operating system drops when it dies.

    Raises:
        OSError: The folder cannot be read.
    """
    return [path for path in _partial_files(folder) if _remove_unlocked(path)]


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Names the file in errors of calls that know only a descriptor."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def _open_aside(folder: str, name: str) -> tuple[str, int]:
    while True:
        aside = os.path.join(folder, f".{_cut(name)}.{secrets.token_hex(4)}{_SUFFIX}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if not fcntl:
            return aside, descriptor
        with contextlib.suppress(OSError):  # file systems without locks: nothing is cleaned there either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_unlinked(descriptor):
            return aside, descriptor
        os.close(descriptor)  # another process took the file for abandoned before it was locked


def _cut(name: str) -> str:
    return os.fsencode(name)[:_LONGEST_NAME].decode("utf-8", "ignore")


def _is_unlinked(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_nlink == 0
    except OSError:
        return False


def _partial_files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _ASIDE.fullmatch(entry.name):
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
