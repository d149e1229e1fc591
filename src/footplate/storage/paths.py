"""Paths of local files and of fsspec targets (`memory://run/a.pth`, `s3://bucket/run`), as plain strings."""

import os
import posixpath
from typing import TypeAlias

Path: TypeAlias = "str | os.PathLike[str]"

_LOCAL_PROTOCOLS = ("file://", "local://")


def is_local(path: Path) -> bool:
    """Returns whether `path` lies on this machine's file system; `file://` does.

    Example:
        >>> is_local("work_dirs/run"), is_local("file:///tmp/a"), is_local("memory://a")
        (True, True, False)
    """
    text = os.fspath(path)
    return "://" not in text or text.startswith(_LOCAL_PROTOCOLS)


def local_path(path: Path) -> str:
    """Returns `path` without the protocol of local files and with `~` resolved."""
    text = os.fspath(path)
    for protocol in _LOCAL_PROTOCOLS:
        text = text.removeprefix(protocol)
    return os.path.expanduser(text)


def is_same_storage(path: Path, other: Path) -> bool:
    """Returns whether two paths lie on one storage: both on this machine, or both at one protocol and bucket or host.

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
    """Returns an absolute path; one that names a remote target already is."""
    return os.path.abspath(local_path(path)) if is_local(path) else os.fspath(path)


def canonical(path: Path) -> str:
    """Returns the absolute path with symbolic links resolved: two paths of one local file become equal."""
    return os.path.realpath(local_path(path)) if is_local(path) else os.fspath(path)


def is_link(path: Path) -> bool:
    """Returns whether `path` itself is a symbolic link, whether it leads anywhere or not."""
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
    """Returns the folder that holds `path`; empty for a bare file name."""
    if is_local(path):
        return os.path.dirname(local_path(path))
    protocol, _, rest = os.fspath(path).partition("://")
    return f"{protocol}://{posixpath.dirname(rest)}"


def base_name(path: Path) -> str:
    """Returns the last part of `path`."""
    return os.path.basename(local_path(path)) if is_local(path) else posixpath.basename(os.fspath(path))


def missing_path_notes(path: Path) -> list[str]:
    """Returns which file was tried for a path that leads nowhere, and from where on it does; nothing of a target.

    Example:
        >>> missing_path_notes(os.path.join(os.sep, "nowhere", "a.json"))
        ["'/' has no 'nowhere'"]
    """
    if not is_local(path):
        return []
    given = local_path(path)
    whole = os.path.abspath(given)
    lines = [] if os.path.isabs(given) else [f"tried {whole}: a relative path begins at the current folder"]
    there, name = whole, ""
    while not os.path.exists(there):
        there, name = os.path.split(there)
    return [*lines, f"'{there}' has no '{name}'"] if name else lines
