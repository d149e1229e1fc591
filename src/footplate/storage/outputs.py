"""Checks output paths before anything is computed or written."""

import os
from collections.abc import Iterable, Sequence

from footplate.errors import ArgumentError
from footplate.storage.paths import Path, canonical, is_local, local_path


def check_output(output: Path, *, suffixes: Sequence[str] = (), inputs: Iterable[Path] = ()) -> None:
    """Checks that an output has a supported suffix and does not overwrite an input.

    A device, such as `/dev/stdout`, may have any name.

    Args:
        output: The file or folder to write.
        suffixes: The supported suffixes; empty to allow any name.
        inputs: The files and folders that are read. Symbolic links, hard links and relative paths are resolved.

    Raises:
        ArgumentError: The suffix is not supported, or the output is an input.
    """
    name = os.fspath(output)
    if suffixes and not name.endswith(tuple(suffixes)) and not _is_device(name):
        allowed = suffixes[0] if len(suffixes) == 1 else f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise ArgumentError(f"the output file name must end in {allowed}", found=name)
    for each in inputs:
        if _is_same(name, os.fspath(each)):
            raise ArgumentError(
                "the output would overwrite the input", found=name, notes=["choose another output path"]
            )


def _is_device(name: str) -> bool:
    path = local_path(name)
    return is_local(name) and os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _is_same(output: str, source: str) -> bool:
    """Checks whether both paths are the same file, or one is inside the other."""
    new, old = canonical(output).rstrip("/"), canonical(source).rstrip("/")
    if new == old or new.startswith(f"{old}/") or old.startswith(f"{new}/"):
        return True
    try:
        return is_local(output) and is_local(source) and os.path.samefile(local_path(output), local_path(source))
    except OSError:
        return False


def output_path(folder: str, path: str, *, key: str = "") -> str:
    """Returns the path of a file or folder inside the folder of a run.

    Args:
        folder: `work_dir/<timestamp>`, or the work_dir itself for folders shared between runs.
        path: The path relative to `folder`.
        key: The config key that holds the path.

    Raises:
        ArgumentError: The path is outside the folder.

    Example:
        >>> output_path("work_dirs/run", "predictions/test.pkl")
        'work_dirs/run/predictions/test.pkl'
    """
    return os.path.join(folder, check_output_path(path, key=key))


def check_output_path(path: object, *, key: str = "") -> str:
    """Returns `path` if it is relative and stays inside the folder that it is joined to.

    Raises:
        ArgumentError: It is not a string, is absolute, or points outside the folder.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise ArgumentError("an output path must be a non-empty string", key=key, found=path)
    is_outside = os.pardir in os.path.normpath(path).split(os.sep)
    if os.path.isabs(path) or path.startswith("~") or "://" in path or is_outside:
        raise ArgumentError(
            f"the output path '{path}' is outside the run folder",
            key=key,
            found=path,
            notes=["give a relative path inside the work_dir"],
        )
    return path
