"""The helpers of `mmengine.utils` for paths."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from footplate.hosts.mmengine.storage_backends import LocalBackend


def is_filepath(x: object) -> bool:
    """Checks whether a value is a path: a string or a `Path`."""
    return isinstance(x, str | Path)


def is_abs(path: str) -> bool:
    """Checks whether a path is absolute, or an address in an object store."""
    return os.path.isabs(path) or path.startswith(("http://", "https://", "s3://"))


def fopen(filepath: str | Path, *args: Any, **kwargs: Any) -> Any:
    """Opens a file.

    Raises:
        ValueError: `filepath` is not a path.
    """
    if not is_filepath(filepath):
        raise ValueError(f"'filepath' must be a path, not {type(filepath).__name__}.")
    return open(filepath, *args, **kwargs)


def check_file_exist(filename: str | Path, msg_tmpl: str = "The file '{}' does not exist.") -> None:
    """Raises FileNotFoundError if a file does not exist."""
    if not os.path.isfile(filename):
        raise FileNotFoundError(msg_tmpl.format(filename))


def mkdir_or_exist(dir_name: str | Path, mode: int = 0o777) -> None:
    """Creates a folder and its parents."""
    Path(dir_name).expanduser().mkdir(mode=mode, parents=True, exist_ok=True)


def symlink(src: str | Path, dst: str | Path, overwrite: bool = True, **kwargs: Any) -> None:
    """Creates a symbolic link `dst` to `src`. Replaces an existing file if `overwrite` is set."""
    if overwrite and os.path.lexists(dst):
        os.remove(dst)
    os.symlink(src, dst, **kwargs)


def scandir(
    dir_path: str | Path,
    suffix: str | tuple[str, ...] | None = None,
    recursive: bool = False,
    case_sensitive: bool = True,
) -> Iterator[str]:
    """Yields the paths of the files in a folder, relative to the folder. Skips hidden files.

    Args:
        dir_path: The folder.
        suffix: The suffixes of the files to yield. By default, all files are yielded.
        recursive: Whether to include subfolders.
        case_sensitive: Whether the suffix is case-sensitive.

    Raises:
        TypeError: `dir_path` is not a path, or `suffix` is not a string or a tuple of strings.
    """
    if not is_filepath(dir_path):
        raise TypeError(f"'dir_path' must be a path, not {type(dir_path).__name__}.")
    if suffix is not None and not isinstance(suffix, str | tuple):
        raise TypeError(f"'suffix' must be a string or a tuple of strings, not {type(suffix).__name__}.")
    if case_sensitive or suffix is None:
        return LocalBackend().list_dir_or_file(dir_path, list_dir=False, suffix=suffix, recursive=recursive)
    ends = tuple(each.lower() for each in ([suffix] if isinstance(suffix, str) else suffix))
    files = LocalBackend().list_dir_or_file(dir_path, list_dir=False, recursive=recursive)
    return (name for name in files if name.lower().endswith(ends))
