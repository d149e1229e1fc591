"""The same operations on whatever fsspec reaches."""

import contextlib
import posixpath
import secrets
from collections.abc import Callable
from typing import Any

from footplate.errors import ArgumentError
from footplate.storage.sink import Sink


def file_system(path: str) -> tuple[Any, str]:
    """Returns the file system of `path` and the path inside it.

    Raises:
        ArgumentError: The protocol is not known, or needs a package that is not installed.
    """
    import fsspec  # type: ignore[import-untyped]

    try:
        system, inner = fsspec.core.url_to_fs(path)
    except (ValueError, ImportError) as error:
        raise _unusable(path, error) from error
    return system, inner


def check_protocol(path: str) -> None:
    """Checks that the target of a path can be used here, without connecting to it.

    Raises:
        ArgumentError: Its protocol is not known, or needs a package that is not installed.
    """
    import fsspec

    protocol = path.partition("://")[0].rpartition("::")[2]
    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        raise _unusable(path, error) from error


def _unusable(path: str, error: Exception) -> ArgumentError:
    protocol, reason = path.partition("://")[0], str(error).partition("\n")[0]
    return ArgumentError(f"cannot use storage of the protocol '{protocol}': {reason}", found=path)


def commit(path: str, write: Callable[[Sink], None]) -> None:
    """Writes a file aside in the same folder and moves it to `path`.

    Raises:
        OSError: Anything failed; what `path` held before is still there.
    """
    system, target = file_system(path)
    folder, name = posixpath.split(target)
    aside = posixpath.join(folder, f".{name}.{secrets.token_hex(4)}.partial")
    system.makedirs(folder, exist_ok=True)
    try:
        with system.open(aside, "wb") as stream:
            write(stream)
        system.mv(aside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            system.rm(aside)
        raise
    system.invalidate_cache()


def remove(path: str) -> None:
    """Removes a file; a file that is gone already is no error.

    Raises:
        OSError: It cannot be removed.
    """
    system, target = file_system(path)
    with contextlib.suppress(FileNotFoundError):
        system.rm(target)


def remove_empty_folder(folder: str) -> None:
    """Removes an empty folder; object stores have none.

    Raises:
        OSError: It is not empty, or cannot be removed.
    """
    system, target = file_system(folder)
    system.invalidate_cache()
    with contextlib.suppress(FileNotFoundError):
        if system.isdir(target):
            system.rmdir(target)


def list_dir(folder: str) -> list[str]:
    """Returns the names in `folder`.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    system, inner = file_system(folder)
    system.invalidate_cache()
    return sorted(posixpath.basename(entry.rstrip("/")) for entry in system.ls(inner, detail=False))


def status(path: str) -> tuple[int, float]:
    """Returns size in bytes and time of the last change in seconds (0 where the target does not tell).

    Raises:
        FileNotFoundError: There is no such file.
    """
    system, inner = file_system(path)
    modified = 0.0
    with contextlib.suppress(NotImplementedError):
        modified = system.modified(inner).timestamp()
    return int(system.size(inner)), modified
