"""The same operations on whatever fsspec reaches."""

import contextlib
import posixpath
import secrets
from collections.abc import Callable
from typing import Any

from footplate.storage.sink import Sink


def file_system(path: str) -> tuple[Any, str]:
    """Returns the file system of `path` and the path inside it.

    Raises:
        ImportError: The protocol needs a package that is not installed.
        ValueError: Nobody knows the protocol.
    """
    import fsspec  # type: ignore[import-untyped]

    system, inner = fsspec.core.url_to_fs(path)
    return system, inner


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


def remove(path: str, *, recursive: bool = False) -> None:
    """Removes a file, or a folder where `recursive` says so; one that is gone already is no error.

    Raises:
        OSError: It cannot be removed.
    """
    system, target = file_system(path)
    with contextlib.suppress(FileNotFoundError):
        system.rm(target, recursive=recursive)


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
