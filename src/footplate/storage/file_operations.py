"""File operations for local paths and for every storage that fsspec supports."""

import contextlib
import errno
import io
import os
import posixpath
import secrets
import shutil
import socket
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from footplate.errors import ArgumentError, FootplateError
from footplate.storage import local_files
from footplate.storage.local_files import Sink
from footplate.storage.paths import Path, is_local, join, local_path

if TYPE_CHECKING:
    from PIL.Image import Image

_CONNECT_SECONDS = 30.0
_READ_SECONDS = 60.0  # without any data
_CLIENT_ERRORS, _TEMPORARY = range(400, 500), (408, 429)  # HTTP status codes
_TYPES_OF_STATUS = {401: PermissionError, 403: PermissionError, 404: FileNotFoundError, 410: FileNotFoundError}
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # of a local cache of fsspec


class FileStatus(NamedTuple):
    """The size and the modification time of a file.

    Attributes:
        size: The size in bytes.
        modified: The time of the last modification in seconds since the epoch, or 0 if unknown.
    """

    size: int
    modified: float


class _PermanentError(OSError):
    """An error of a remote storage that would occur again at another attempt."""


def file_system(path: Path) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL and the path inside it.

    Raises:
        ArgumentError: The protocol is unknown or needs a package that is not installed.
    """
    import fsspec  # type: ignore[import-untyped]

    with _protocol_errors(os.fspath(path)):
        found: tuple[Any, str] = fsspec.core.url_to_fs(os.fspath(path), **_options(os.fspath(path)))
    return found


def _options(path: str) -> dict[str, Any]:
    """Returns the fsspec options for a URL. For HTTP, they remove the time limit on a whole download."""
    protocol = path.partition("://")[0]
    if protocol not in ("http", "https"):
        return {}
    import fsspec

    try:
        import aiohttp
    except ImportError:  # fsspec raises an error that names the missing packages
        return {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
    given = fsspec.config.conf.get(protocol, {}).get("client_kwargs", {})
    return {"client_kwargs": {"timeout": timeout, **given}}


def check_protocol(path: str) -> None:
    """Checks that the protocol of a URL is supported, without connecting.

    Raises:
        ArgumentError: The protocol is unknown or needs a package that is not installed.
    """
    import fsspec

    with _protocol_errors(path):
        fsspec.get_filesystem_class(path.partition("://")[0].rpartition("::")[2])


@contextlib.contextmanager
def _protocol_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, ImportError) as error:
        protocol, reason = path.partition("://")[0], str(error).partition("\n")[0]
        raise ArgumentError(f"cannot use the storage protocol '{protocol}': {reason}", found=path) from error


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    """Converts errors from storage packages, including those that fsspec reports as a missing file.

    Raises:
        FileNotFoundError: The file does not exist.
        PermissionError: The file may not be read, or there are no credentials.
        ConnectionError: The storage cannot be reached, or reported a temporary error, so another attempt may succeed.
        OSError: Another attempt would fail, too.
    """
    try:
        yield
    except (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError, _PermanentError, FootplateError):
        raise
    except Exception as error:  # the types of the packages, which need not be installed
        cause: BaseException | None = error
        if isinstance(error, FileNotFoundError):
            cause = error.__cause__
            is_connection_error = isinstance(cause, OSError) or type(cause).__module__.startswith("aiohttp.")
            if isinstance(cause, FileNotFoundError) or not is_connection_error:
                raise
        if _is_unknown_host(error):
            raise _PermanentError(f"the host name does not exist: {_describe(cause)}") from error
        raise _error_type(cause)(_describe(cause)) from error


def _is_unknown_host(error: BaseException | None) -> bool:
    """Checks whether an error was caused by a host name that does not exist, according to the resolver."""
    while error is not None:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
            return True
        error = error.__cause__ or error.__context__
    return False


def _error_type(error: BaseException | None) -> type[OSError]:
    """Returns the type of OSError for an error of a storage package; see `_network_errors`."""
    status: Any = getattr(error, "status", None)
    if status in _CLIENT_ERRORS and status not in _TEMPORARY:
        return _TYPES_OF_STATUS.get(status, _PermanentError)
    if "Credentials" in type(error).__name__:
        return PermissionError
    is_permanent = isinstance(error, (ImportError, TypeError, ValueError))
    is_permanent |= getattr(error, "errno", None) in _DISK_FULL
    return _PermanentError if is_permanent else ConnectionError


def _describe(error: BaseException | None) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def atomic_file(path: Path, reserve: int = 0) -> contextlib.AbstractContextManager[Sink]:
    """Opens a sink for the new content of a file. `path` either receives the complete content or is unchanged.

    The content is written to a temporary file in the same folder, which is renamed to `path` when the block ends
    without an exception. Locally, the file is synced before the rename and the folder after it. Missing folders are
    created.

    Args:
        path: The path of the file.
        reserve: The size in bytes that a local temporary file has from the beginning.

    Raises:
        OSError: Writing failed. The previous file is unchanged.
    """
    return local_files.atomic_file(local_path(path), reserve) if is_local(path) else _atomic_remote_file(path)


@contextlib.contextmanager
def _atomic_remote_file(path: Path) -> Iterator[Sink]:
    system, target = file_system(path)
    folder, name = posixpath.split(target)
    temporary = posixpath.join(folder, f".{name}.{secrets.token_hex(4)}.partial")
    system.makedirs(folder, exist_ok=True)
    try:
        with system.open(temporary, "wb") as stream:
            yield stream
        system.mv(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            system.rm(temporary)
        raise
    system.invalidate_cache()


def commit_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` atomically; see `atomic_file`.

    Raises:
        OSError: Writing failed. The previous file is unchanged.
    """
    with atomic_file(path) as sink:
        sink.write(data)


def check_writable(folder: Path) -> None:
    """Checks that files can be created in a folder, by writing and removing one. Creates a missing folder.

    Raises:
        OSError: Writing failed.
    """
    probe = join(folder, f".writable.{secrets.token_hex(8)}")  # random, so that no file is overwritten
    commit_bytes(probe, b"footplate")
    remove(probe)


def append_line(path: str, line: str) -> None:
    """Appends a line to a local file in one write, so that a killed process leaves no incomplete line.

    Missing folders and the file are created. The text must not contain a line break.

    Raises:
        OSError: Writing failed, for example because the disk is full. The file is unchanged.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    data = (line + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        written = os.write(descriptor, data)
        if written < len(data):  # the disk is full
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(descriptor)


def commit_image(path: Path, image: "Image", **options: Any) -> None:
    """Writes an image atomically, in the format that matches the suffix of `path`; see `atomic_file`.

    The format options are passed to Pillow.

    Raises:
        OSError: Writing failed. The previous file is unchanged.
        ValueError: No format has this suffix.
    """
    from PIL.Image import registered_extensions

    suffix = os.path.splitext(os.fspath(path))[1].lower()
    encoded = io.BytesIO()
    image.save(encoded, registered_extensions().get(suffix), **options)
    commit_bytes(path, encoded.getvalue())


def open_file(path: Path, mode: str = "rb") -> IO[Any]:
    """Opens a file in place. To write atomically, use `atomic_file`.

    Raises:
        OSError: The file cannot be opened, or is a pipe, a socket or a device.
    """
    encoding = None if "b" in mode else "utf-8"
    if is_local(path):
        return local_files.open_file(local_path(path), mode, encoding)
    system, inner = file_system(path)
    with _network_errors():
        stream: IO[Any] = system.open(inner, mode, encoding=encoding) if encoding else system.open(inner, mode)
    return stream


def read_pieces(path: Path, size: int) -> Iterator[bytes]:
    """Yields the content of a file in chunks of at most `size` bytes.

    Raises:
        FileNotFoundError: The file does not exist.
        PermissionError: The file may not be read.
        ConnectionError: Reading failed for a reason that may be temporary, so that another attempt may succeed.
        OSError: Another attempt would fail, too.
    """
    position = 0
    try:
        with _network_errors(), _open_stream(path) as stream:
            while piece := stream.read(size):
                yield piece
                position += len(piece)
    except ConnectionError as error:
        raise ConnectionError(f"reading failed after {position} bytes: {_describe(error)}") from error


def _open_stream(path: Path) -> IO[Any]:
    """Opens a file for reading from the beginning to the end. Sends a single request to an HTTP server.

    By default, fsspec reads a file in blocks, for which a server must support range requests. It also joins blocks of
    answers that are too short, such as an error page.
    """
    if not os.fspath(path).startswith(("http://", "https://")):
        return open_file(path)
    system, inner = file_system(path)
    stream: IO[Any] = system.open(inner, "rb", block_size=0)
    return stream


def read_bytes(path: Path, most: int = -1) -> bytes:
    """Returns the content of a file, or its first `most` bytes.

    Raises:
        OSError: The file cannot be read. See `read_pieces` for the errors of remote files.
    """
    with contextlib.nullcontext() if is_local(path) else _network_errors(), open_file(path) as stream:
        data: bytes = stream.read(most)
    return data


def exists(path: Path) -> bool:
    """Checks whether there is a file or folder at `path`."""
    if is_local(path):
        return os.path.exists(local_path(path))
    system, inner = file_system(path)
    with _network_errors():
        return bool(system.exists(inner))


def list_dir(folder: Path) -> list[str]:
    """Returns the sorted names in `folder`, including temporary files, whose names start with a dot.

    Raises:
        FileNotFoundError: The folder does not exist.
    """
    if is_local(folder):
        return sorted(os.listdir(local_path(folder)))
    system, inner = file_system(folder)
    system.invalidate_cache()
    with _network_errors():
        return sorted(posixpath.basename(entry.rstrip("/")) for entry in system.ls(inner, detail=False))


def status(path: Path) -> FileStatus:
    """Returns the size and modification time of a file.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: The status cannot be read, or the storage does not report the size.
    """
    if is_local(path):
        found = os.stat(local_path(path))
        return FileStatus(found.st_size, found.st_mtime)
    system, inner = file_system(path)
    modified = 0.0
    with _network_errors():
        with contextlib.suppress(NotImplementedError):
            modified = system.modified(inner).timestamp()
        size = system.size(inner)
    if size is None:
        raise OSError("the storage does not report its size; an HTTP server must send Content-Length")
    return FileStatus(int(size), modified)


def make_dirs(folder: Path) -> None:
    """Creates a folder and its parents if they do not exist.

    Raises:
        OSError: The folder cannot be created.
    """
    if is_local(folder):
        os.makedirs(local_path(folder), exist_ok=True)
    else:
        system, inner = file_system(folder)
        system.makedirs(inner, exist_ok=True)


def remove(path: Path) -> None:
    """Removes a file if it exists.

    Raises:
        OSError: The file cannot be removed.
    """
    if is_local(path):
        local_files.remove(local_path(path))
    else:
        system, inner = file_system(path)
        with contextlib.suppress(FileNotFoundError):
            system.rm(inner)


def remove_empty_folder(folder: Path) -> None:
    """Removes an empty folder if it exists. Does nothing on object stores, which have no folders.

    Raises:
        OSError: The folder is not empty or cannot be removed.
    """
    if is_local(folder):
        local_files.remove_empty_folder(local_path(folder))
        return
    system, inner = file_system(folder)
    system.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        if system.isdir(inner):
            system.rmdir(inner)


def clean_stale(folder: Path) -> list[str]:
    """Removes temporary files that dead processes left in a local folder, and returns their paths.

    Raises:
        OSError: The folder cannot be read.
    """
    return local_files.clean_stale(local_path(folder)) if is_local(folder) and exists(folder) else []


def free_space(folder: Path) -> int | None:
    """Returns the free space of a folder in bytes, or None if it is remote.

    If the folder does not exist, its nearest existing parent is used.

    Raises:
        OSError: The file system does not report its free space.
    """
    if not is_local(folder):
        return None
    nearest = os.path.abspath(local_path(folder))
    while not os.path.isdir(nearest):
        nearest = os.path.dirname(nearest)
    return shutil.disk_usage(nearest).free
