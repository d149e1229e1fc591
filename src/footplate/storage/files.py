"""One set of operations for local and remote files."""

import io
import os
import shutil
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from footplate.storage import local, remote
from footplate.storage.paths import Path, is_local, local_path
from footplate.storage.sink import Sink

if TYPE_CHECKING:
    from PIL.Image import Image


class FileStatus(NamedTuple):
    """What is known of a file without reading it.

    Attributes:
        size: In bytes.
        modified: Time of the last change, in seconds since the epoch.
    """

    size: int
    modified: float


def commit_file(path: Path, write: Callable[[Sink], None]) -> None:
    """Lets `write` fill a file that appears under `path` whole, or not at all.

    Local files are written aside in the same folder, synced and renamed, and the folder is synced. Missing
    folders are made.

    Args:
        path: Where the file is to appear; an older one is replaced.
        write: Writes everything into the sink it is given.

    Raises:
        OSError: It failed; what was there before is untouched.
    """
    if is_local(path):
        local.commit(local_path(path), write)
    else:
        remote.commit(os.fspath(path), write)


def commit_bytes(path: Path, data: bytes) -> None:
    """Writes `data` under `path` whole, or not at all; see `commit_file`.

    Raises:
        OSError: It failed; what was there before is untouched.
    """

    def write(sink: Sink) -> None:
        sink.write(data)

    commit_file(path, write)


def commit_picture(path: Path, picture: "Image") -> None:
    """Writes a picture under `path` whole, or not at all, in the format that the suffix names; see `commit_file`.

    Raises:
        OSError: It failed; what was there before is untouched.
        ValueError: No format has this suffix.
    """
    from PIL.Image import registered_extensions

    suffix = os.path.splitext(os.fspath(path))[1].lower()
    encoded = io.BytesIO()
    picture.save(encoded, registered_extensions().get(suffix))
    commit_bytes(path, encoded.getvalue())


def open_file(path: Path, mode: str = "rb") -> IO[Any]:
    """Opens a file in place; to write one that must not be seen half written, use `commit_file`.

    Raises:
        OSError: It cannot be opened, or is a pipe, a socket or a device.
    """
    encoding = None if "b" in mode else "utf-8"
    if is_local(path):
        return local.open_file(local_path(path), mode, encoding)
    system, inner = remote.file_system(os.fspath(path))
    stream: IO[Any] = system.open(inner, mode, encoding=encoding) if encoding else system.open(inner, mode)
    return stream


def read_bytes(path: Path, most: int = -1) -> bytes:
    """Returns everything in a file, or the first `most` bytes of it.

    Raises:
        OSError: It cannot be read.
    """
    with open_file(path) as stream:
        data: bytes = stream.read(most)
    return data


def exists(path: Path) -> bool:
    """Returns whether there is a file or folder at `path`."""
    if is_local(path):
        return os.path.exists(local_path(path))
    system, inner = remote.file_system(os.fspath(path))
    return bool(system.exists(inner))


def list_dir(folder: Path) -> list[str]:
    """Returns the names in `folder`, sorted; files being written are among them, with a dot in front.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    return sorted(os.listdir(local_path(folder))) if is_local(folder) else remote.list_dir(os.fspath(folder))


def status(path: Path) -> FileStatus:
    """Returns size and time of change of a file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not is_local(path):
        return FileStatus(*remote.status(os.fspath(path)))
    found = os.stat(local_path(path))
    return FileStatus(found.st_size, found.st_mtime)


def make_dirs(folder: Path) -> None:
    """Makes a folder and those above it, unless they are there.

    Raises:
        OSError: It cannot be made.
    """
    if is_local(folder):
        os.makedirs(local_path(folder), exist_ok=True)
    else:
        system, inner = remote.file_system(os.fspath(folder))
        system.makedirs(inner, exist_ok=True)


def remove(path: Path) -> None:
    """Removes a file; one that is gone already is no error.

    Raises:
        OSError: It cannot be removed.
    """
    if is_local(path):
        local.remove(local_path(path))
    else:
        remote.remove(os.fspath(path))


def remove_empty_folder(folder: Path) -> None:
    """Removes an empty folder; a folder that is gone already is no error.

    Raises:
        OSError: It is not empty, or cannot be removed.
    """
    if is_local(folder):
        local.remove_empty_folder(local_path(folder))
    else:
        remote.remove_empty_folder(os.fspath(folder))


def clean_stale(folder: Path) -> list[str]:
    """Removes what dead processes left half written in a local folder, and returns the paths.

    Raises:
        OSError: The folder cannot be read.
    """
    return local.clean_stale(local_path(folder)) if is_local(folder) and exists(folder) else []


def free_space(folder: Path) -> int | None:
    """Returns the bytes that can still be written into `folder`, or None where nobody knows.

    A folder that does not exist yet counts as the nearest one above it that does.

    Raises:
        OSError: The file system does not tell.
    """
    if not is_local(folder):
        return None
    nearest = os.path.abspath(local_path(folder))
    while not os.path.isdir(nearest):
        nearest = os.path.dirname(nearest)
    return shutil.disk_usage(nearest).free
