"""File operations on remote paths, through fsspec."""

import contextlib
import posixpath
import secrets
from collections.abc import Callable
from typing import Any

from footplate.errors import ArgumentError
from footplate.storage.sink import Sink


def file_system(path: str) -> tuple[Any, str]:
    """Returns the fsspec file system of a URL and the path inside it.

    Raises:
        ArgumentError: The protocol is unknown or needs a package that is not installed.
    """
    import fsspec  # type: ignore[import-untyped]

    try:
        system, inner = fsspec.core.url_to_fs(path)
    except (ValueError, ImportError) as error:
        raise _unsupported(path, error) from error
    return system, inner


def check_protocol(path: str) -> None:
    """Checks that the protocol of a URL is supported, without connecting.

    Raises:
        ArgumentError: The protocol is unknown or needs a package that is not installed.
    """
    import fsspec

    protocol = path.partition("://")[0].rpartition("::")[2]
    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        raise _unsupported(path, error) from error


def _unsupported(path: str, error: Exception) -> ArgumentError:
    protocol, reason = path.partition("://")[0], str(error).partition("\n")[0]
    return ArgumentError(f"cannot use the storage protocol '{protocol}': {reason}", found=path)


def commit(path: str, write: Callable[[Sink], None]) -> None:
    """Writes a temporary file in the same folder and moves it to `path`.

    Raises:
        OSError: A step failed. The previous file is untouched.
    """
    system, target = file_system(path)
    folder, name = posixpath.split(target)
    temporary = posixpath.join(folder, f".{name}.{secrets.token_hex(4)}.partial")
    system.makedirs(folder, exist_ok=True)
    try:
        with system.open(temporary, "wb") as stream:
            write(stream)
        system.mv(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            system.rm(temporary)
        raise
    system.invalidate_cache()


def remove(path: str) -> None:
    """Removes a file if it exists.

    Raises:
        OSError: The file cannot be removed.
    """
    system, target = file_system(path)
    with contextlib.suppress(FileNotFoundError):
        system.rm(target)


def remove_empty_folder(folder: str) -> None:
    """Removes an empty folder if it exists; object stores have no folders.

    Raises:
        OSError: The folder is not empty or cannot be removed.
    """
    system, target = file_system(folder)
    system.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        if system.isdir(target):
            system.rmdir(target)


def list_dir(folder: str) -> list[str]:
    """Returns the sorted names in `folder`.

    Raises:
        FileNotFoundError: The folder does not exist.
    """
    system, inner = file_system(folder)
    system.invalidate_cache()
    return sorted(posixpath.basename(entry.rstrip("/")) for entry in system.ls(inner, detail=False))


def status(path: str) -> tuple[int, float]:
    """Returns the size in bytes and the modification time in seconds since the epoch (0 if unknown).

    Raises:
        FileNotFoundError: The file does not exist.
    """
    system, inner = file_system(path)
    modified = 0.0
    with contextlib.suppress(NotImplementedError):
        modified = system.modified(inner).timestamp()
    return int(system.size(inner)), modified
