"""Operations on path strings: local paths and fsspec URLs (`memory://run/a.pth`, `s3://bucket/run`)."""

import os
import posixpath
from typing import TypeAlias

Path: TypeAlias = "str | os.PathLike[str]"

_LOCAL_PROTOCOLS = ("file://", "local://")


def is_local(path: Path) -> bool:
    """Checks whether `path` is on the local file system; `file://` is.

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


def is_same_storage(path: Path, other: Path) -> bool:
    """Checks whether two paths are both local, or have the same protocol and the same bucket or host.

    Example:
        >>> is_same_storage("s3://bucket/a", "s3://bucket/b"), is_same_storage("s3://bucket/a", "s3://other/b")
        (True, False)
    """
    if is_local(path) or is_local(other):
        return is_local(path) and is_local(other)
    return _root(os.fspath(path)) == _root(os.fspath(other))


def _root(path: str) -> tuple[str, str]:
    protocol, _, rest = path.partition("://")
    return protocol, rest if "::" in rest else rest.partition("/")[0]


def absolute(path: Path) -> str:
    """Returns the absolute path. A URL is returned unchanged."""
    return os.path.abspath(local_path(path)) if is_local(path) else os.fspath(path)


def canonical(path: Path) -> str:
    """Returns the absolute path with symbolic links resolved. A URL is returned unchanged."""
    return os.path.realpath(local_path(path)) if is_local(path) else os.fspath(path)


def is_link(path: Path) -> bool:
    """Checks whether `path` itself is a symbolic link, including a broken one."""
    return is_local(path) and os.path.islink(local_path(path).rstrip(os.sep))


def join(folder: Path, *names: str) -> str:
    """Returns the path of a file below `folder`.

    Example:
        >>> join("memory://run", "a.pth")
        'memory://run/a.pth'
    """
    if is_local(folder):
        return os.path.join(local_path(folder), *names)
    return posixpath.join(os.fspath(folder), *names)


def parent(path: Path) -> str:
    """Returns the folder of `path`; empty for a bare file name."""
    if is_local(path):
        return os.path.dirname(local_path(path))
    protocol, _, rest = os.fspath(path).partition("://")
    return f"{protocol}://{posixpath.dirname(rest)}"


def base_name(path: Path) -> str:
    """Returns the last part of `path`."""
    return os.path.basename(local_path(path)) if is_local(path) else posixpath.basename(os.fspath(path))


def missing_path_notes(path: Path) -> list[str]:
    """Explains why a local path does not exist: the absolute path that was tried, and its first missing part.

    Returns an empty list for a path that exists or is remote.

    Example:
        >>> missing_path_notes(os.path.join(os.sep, "nowhere", "a.json"))
        ["'/' has no 'nowhere'"]
    """
    if not is_local(path):
        return []
    given = local_path(path)
    tried = os.path.abspath(given)
    lines = [] if os.path.isabs(given) else [f"tried {tried}: relative paths start at the current directory"]
    folder, name = tried, ""
    while not os.path.exists(folder):
        folder, name = os.path.split(folder)
    return [*lines, f"'{folder}' has no '{name}'"] if name else lines
