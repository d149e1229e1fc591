"""Operations on local paths and fsspec URLs (such as `s3://bucket/run`), and checks of output paths."""

import os
import posixpath
from typing import TypeAlias

from footplate.error_context import explain_missing_path
from footplate.errors import ArgumentError

Path: TypeAlias = str | os.PathLike[str]

_LOCAL_PROTOCOLS = ("file://", "local://")


def is_local(path: Path) -> bool:
    """Checks whether `path` is on the local file system. `file://` URLs are local.

    Example:
        >>> is_local("work_dirs/run"), is_local("file:///tmp/a"), is_local("memory://a")
        (True, True, False)
    """
    text = os.fspath(path)
    return "://" not in text or text.startswith(_LOCAL_PROTOCOLS)


def local_path(path: Path) -> str:
    """Returns a local path without its protocol and with `~` expanded."""
    text = os.fspath(path)
    for protocol in _LOCAL_PROTOCOLS:
        text = text.removeprefix(protocol)
    return os.path.expanduser(text)


def absolute(path: Path) -> str:
    """Returns the absolute form of a local path. URLs are returned unchanged."""
    return os.path.abspath(local_path(path)) if is_local(path) else os.fspath(path)


def canonical(path: Path) -> str:
    """Returns the absolute form of a local path, with symbolic links resolved. URLs are returned unchanged."""
    return os.path.realpath(local_path(path)) if is_local(path) else os.fspath(path)


def is_link(path: Path) -> bool:
    """Checks whether `path` itself is a symbolic link, possibly a broken one."""
    return is_local(path) and os.path.islink(local_path(path).rstrip(os.sep))


def join(folder: Path, *names: str) -> str:
    """Appends names to a folder path.

    Example:
        >>> join("memory://run", "a.pth")
        'memory://run/a.pth'
    """
    if is_local(folder):
        return os.path.join(local_path(folder), *names)
    return posixpath.join(os.fspath(folder), *names)


def parent(path: Path) -> str:
    """Returns the folder of `path`, or "" for a bare file name."""
    if is_local(path):
        return os.path.dirname(local_path(path))
    protocol, _, rest = without_query(os.fspath(path)).partition("://")
    return f"{protocol}://{posixpath.dirname(rest)}"


def base_name(path: Path) -> str:
    """Returns the last part of `path`, without the query string if it is an HTTP URL."""
    if is_local(path):
        return os.path.basename(local_path(path))
    return posixpath.basename(without_query(os.fspath(path)))


def without_query(url: str) -> str:
    """Returns an HTTP URL without its query, such as the signature of a signed URL. Other paths are not changed.

    Example:
        >>> without_query("https://host/a.tar?signature=12")
        'https://host/a.tar'
    """
    return url.partition("?")[0] if url.startswith(("http://", "https://")) else url


def missing_path_notes(path: Path) -> list[str]:
    """Returns notes that explain why a local path does not exist; see `explain_missing_path`.

    Returns an empty list if the path is remote.

    Example:
        >>> missing_path_notes(os.path.join(os.sep, "nowhere", "a.json"))
        ["the folder '/' has no 'nowhere'"]
    """
    return explain_missing_path(local_path(path)) if is_local(path) else []


def output_path(folder: str, path: str, *, key: str = "") -> str:
    """Returns the path of a file or folder inside a run's folder.

    Args:
        folder: `work_dir/<timestamp>`, or the work_dir itself for folders shared between runs.
        path: The path relative to `folder`.
        key: The config key of the path.

    Raises:
        ArgumentError: The path is outside the folder.

    Example:
        >>> output_path("work_dirs/run", "predictions/test.pkl")
        'work_dirs/run/predictions/test.pkl'
    """
    return os.path.join(folder, check_output_path(path, key=key))


def check_output_path(path: object, *, key: str = "") -> str:
    """Returns `path` after checking that it is relative and stays inside its base folder.

    Raises:
        ArgumentError: The path is not a non-empty string, is absolute, or points outside the folder.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise ArgumentError("an output path must be a non-empty string without null characters", key=key, found=path)
    is_outside = os.pardir in os.path.normpath(path).split(os.sep)
    if os.path.isabs(path) or path.startswith("~") or "://" in path or is_outside:
        raise ArgumentError(
            f"the output path '{path}' must be relative and stay inside the work_dir",
            key=key,
            found=path,
            notes=["Use a relative path without '..', such as 'results/test'."],
        )
    return path
