"""File operations for local paths and for all storage systems that fsspec supports."""

import contextlib
import errno
import importlib.util
import io
import os
import posixpath
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from footplate.errors import ArgumentError, FootplateError
from footplate.messages import first_line
from footplate.storage import local_files
from footplate.storage.paths import Path, absolute, base_name, is_local, join, local_path, parent

if TYPE_CHECKING:
    from PIL.Image import Image

_CONNECT_SECONDS = 30.0
_READ_SECONDS = 60.0  # the maximum time without receiving any data
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # errors that concern a local disk rather than a connection


class FileStatus(NamedTuple):
    """The size and modification time of a file.

    Attributes:
        size: The size in bytes.
        modified: The modification time in seconds since the epoch, or 0 if it is unknown.
    """

    size: int
    modified: float


def file_system(path: Path) -> tuple[Any, str]:
    """Returns the fsspec file system for a URL, and the path in that file system.

    Raises:
        ArgumentError: The protocol is unknown, or requires a package that is not installed.
    """
    import fsspec  # type: ignore[import-untyped]

    url = os.fspath(path)
    try:
        system: tuple[Any, str] = fsspec.core.url_to_fs(url, **_options(url))
    except (ValueError, ImportError) as error:
        protocol = url.partition("://")[0]
        raise ArgumentError(f"cannot use the storage protocol '{protocol}': {first_line(error)}", found=url) from error
    return system


def _options(path: str) -> dict[str, Any]:
    """Returns the fsspec options for a URL. HTTP reads time out if no data arrives; there is no total time limit."""
    protocol = path.partition("://")[0]
    if protocol not in ("http", "https") or importlib.util.find_spec("aiohttp") is None:
        return {}
    import aiohttp
    import fsspec

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
    return {"client_kwargs": {"timeout": timeout, **fsspec.config.conf.get(protocol, {}).get("client_kwargs", {})}}


@contextlib.contextmanager
def _remote(path: Path) -> Iterator[tuple[Any, str]]:
    """Yields the fsspec file system of a URL, and the path in that file system. Converts network errors to OSErrors.

    Raises:
        OSError: See `_network_errors`.
    """
    with _network_errors():
        yield file_system(path)


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Converts errors from storage packages to built-in exceptions.

    fsspec reports some network errors as FileNotFoundError; these become ConnectionError.

    Raises:
        FileNotFoundError: The file does not exist.
        ConnectionError: The storage cannot be reached, or refuses the request.
        OSError: A local disk is full or read-only.
    """
    try:
        yield
    except (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError, FootplateError):
        raise
    except Exception as error:  # the exception types belong to packages that may not be installed
        if getattr(error, "errno", None) in NO_SPACE:
            raise
        cause: BaseException = error
        if isinstance(error, FileNotFoundError):  # fsspec also reports other failed HTTP requests as a missing file
            cause = error.__cause__ or error
            if isinstance(cause, LookupError | FileNotFoundError) or getattr(cause, "status", 0) == 404:
                raise
        raise ConnectionError(first_line(cause) or type(cause).__name__) from error


def atomic_file(path: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Opens a file for atomic writing: `path` either receives the complete content or is unchanged.

    The content is written to a temporary file in the same folder. At the end of the block, the file is renamed to
    `path`, unless there was an exception. For local paths, the file is synced before the rename, and the folder is
    synced after the rename. Missing folders are created.

    Raises:
        OSError: Writing failed. The previous file is unchanged, unless only the last step, syncing the folder, failed.
    """
    return local_files.atomic_local_file(local_path(path)) if is_local(path) else _atomic_remote_file(path)


@contextlib.contextmanager
def _atomic_remote_file(path: Path) -> Iterator[Any]:
    temporary = join(parent(path), f".{base_name(path)}.{secrets.token_hex(4)}.partial")
    make_dirs(parent(path))
    try:
        with _remote(temporary) as (system, inner):
            stream = system.open(inner, "wb")
        try:
            yield _RemoteSink(stream)
        finally:
            with _network_errors():
                stream.close()
        with _remote(path) as (system, target):
            system.mv(inner, target)
            system.invalidate_cache()
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temporary)
        raise


class _RemoteSink:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: bytes, /) -> int:
        with _network_errors():
            return self._stream.write(data)


def commit_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` atomically; see `atomic_file`.

    Raises:
        OSError: Writing failed.
    """
    with atomic_file(path) as sink:
        sink.write(data)


def check_writable(folder: Path) -> None:
    """Writes and removes a file to check that a folder is writable. Creates the folder if it is missing.

    Raises:
        OSError: Writing failed.
    """
    probe = join(folder, f".writable.{secrets.token_hex(8)}")  # random, so that no existing file is overwritten
    commit_bytes(probe, b"footplate")
    remove(probe)


def append_line(path: str, line: str) -> None:
    """Appends a line to a local file in a single write, so that a killed process leaves no incomplete line.

    Creates the file and missing folders. The text must not contain a line break.

    Raises:
        OSError: Writing failed, for example because the disk is full. The file is unchanged.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    data = (line + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        written = os.write(descriptor, data)
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise
    finally:
        os.close(descriptor)


def commit_image(path: Path, image: "Image", **options: Any) -> None:
    """Writes an image atomically, in the format that matches the suffix of `path`; see `atomic_file`.

    `options` are passed to Pillow.

    Raises:
        OSError: Writing failed.
        ValueError: No image format has this suffix.
    """
    from PIL.Image import registered_extensions

    suffix = os.path.splitext(os.fspath(path))[1].lower()
    encoded = io.BytesIO()
    image.save(encoded, registered_extensions().get(suffix), **options)
    commit_bytes(path, encoded.getvalue())


def open_file(path: Path) -> IO[bytes]:
    """Opens a file for reading.

    Raises:
        OSError: The file cannot be opened.
    """
    if is_local(path):
        local = local_path(path)
        if stat.S_ISFIFO(os.stat(local).st_mode):
            raise OSError(errno.ESPIPE, "it is a named pipe", local)  # opening it would wait for a writer
        return open(local, "rb")
    with _remote(path) as (system, inner):
        return system.open(inner, "rb")  # type: ignore[no-any-return]


def read_bytes(path: Path, most: int = -1) -> bytes:
    """Returns the content of a file, or its first `most` bytes.

    Raises:
        FileNotFoundError: The file does not exist.
        ConnectionError: The storage cannot be reached, or refuses the request.
        OSError: The file cannot be read for another reason.
    """
    with contextlib.nullcontext() if is_local(path) else _network_errors(), open_file(path) as stream:
        return stream.read(most)


def exists(path: Path) -> bool:
    """Checks whether a file or folder exists at `path`. Raises an OSError if remote storage cannot be reached."""
    if is_local(path):
        return os.path.exists(local_path(path))
    with _remote(path) as (system, inner):
        return bool(system.exists(inner))


def list_dir(folder: Path) -> list[str]:
    """Returns the sorted names of all entries in `folder`, including temporary files, which start with a dot.

    Raises:
        FileNotFoundError: The folder does not exist.
        OSError: The folder cannot be read.
    """
    if is_local(folder):
        return sorted(os.listdir(local_path(folder)))
    with _remote(folder) as (system, inner):
        system.invalidate_cache()
        return sorted(posixpath.basename(entry.rstrip("/")) for entry in system.ls(inner, detail=False))


def status(path: Path) -> FileStatus:
    """Returns the size and modification time of a file.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: The status cannot be read, or the storage does not report the size.
    """
    if is_local(path):
        status = os.stat(local_path(path))
        return FileStatus(status.st_size, status.st_mtime)
    modified = 0.0
    with _remote(path) as (system, inner):
        with contextlib.suppress(NotImplementedError):
            modified = system.modified(inner).timestamp()
        size = system.size(inner)
    if size is None:
        raise OSError("the storage does not report the file size; an HTTP server must send Content-Length")
    return FileStatus(int(size), modified)


def make_dirs(folder: Path) -> None:
    """Creates a folder and its parents if they do not exist. An empty path is the current folder.

    Raises:
        OSError: The folder cannot be created.
    """
    if is_local(folder):
        os.makedirs(local_path(folder) or os.curdir, exist_ok=True)
    else:
        with _remote(folder) as (system, inner):
            system.makedirs(inner, exist_ok=True)


def remove(path: Path) -> None:
    """Removes a file if it exists. Syncs the folder of a local file.

    Raises:
        OSError: The file cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        if is_local(path):
            os.unlink(local_path(path))
            local_files.sync_folder(parent(absolute(path)))
        else:
            with _remote(path) as (system, inner):
                system.rm(inner)


def remove_empty_folder(folder: Path) -> None:
    """Removes an empty folder, if it exists. Does nothing for object stores, which have no folders.

    Syncs the parent of a local folder.

    Raises:
        OSError: The folder is not empty or cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        if is_local(folder):
            os.rmdir(local_path(folder))
            local_files.sync_folder(parent(absolute(folder)))
            return
        with _remote(folder) as (system, inner):
            system.invalidate_cache()
            if system.isdir(inner):
                system.rmdir(inner)


def clean_stale(folder: Path) -> None:
    """Removes temporary files that have not been written to for ten minutes from a local folder, if it exists.

    Raises:
        OSError: The folder cannot be read.
    """
    if is_local(folder) and exists(folder):
        local_files.clean_stale(local_path(folder))


def free_space(folder: Path) -> int | None:
    """Returns the free space in a folder in bytes, or None for a remote folder.

    If the folder does not exist, uses its nearest existing parent.

    Raises:
        OSError: The file system does not report its free space.
    """
    if not is_local(folder):
        return None
    nearest = os.path.abspath(local_path(folder))
    while not os.path.isdir(nearest):
        nearest = os.path.dirname(nearest)
    return shutil.disk_usage(nearest).free
