"""Checks where outputs go, before anything is computed or written."""

import os
from collections.abc import Iterable, Sequence

from footplate.errors import ArgumentError
from footplate.storage.paths import Path, canonical, is_local, local_path


def check_output(output: Path, *, suffixes: Sequence[str] = (), inputs: Iterable[Path] = ()) -> None:
    """Refuses an output whose suffix names no format that is written, and one that would replace an input.

    A device, such as `/dev/stdout`, may have any name.

    Args:
        output: The file or folder to write.
        suffixes: Those of the formats that are written; any name will do without one.
        inputs: The files and folders that are read. Links, hard links and relative paths to them count as well.

    Raises:
        ArgumentError: It is refused.
    """
    name = os.fspath(output)
    if suffixes and not name.endswith(tuple(suffixes)) and not _is_device(name):
        told = suffixes[0] if len(suffixes) == 1 else f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise ArgumentError(f"the name of the output must end in {told}", found=name)
    for each in inputs:
        if _is_same(name, os.fspath(each)):
            raise ArgumentError(
                "the output would replace what is read", found=name, notes=["Choose another name; the input stays."]
            )


def _is_device(name: str) -> bool:
    path = local_path(name)
    return is_local(name) and os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _is_same(output: str, source: str) -> bool:
    """Returns whether writing `output` would change `source`: they are one file, or one lies in the other."""
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
        folder: `work_dir/<timestamp>`, or the work_dir for folders that the runs in it share.
        path: Relative to it.
        key: The key of the config that holds the path.

    Raises:
        ArgumentError: The path leads out of the folder.

    Example:
        >>> output_path("work_dirs/run", "predictions/test.pkl")
        'work_dirs/run/predictions/test.pkl'
    """
    return os.path.join(folder, check_output_path(path, key=key))


def check_output_path(path: object, *, key: str = "") -> str:
    """Returns a relative path that stays inside the folder it is joined to.

    Raises:
        ArgumentError: It is not a string, it is absolute, or it leads out of the folder.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise ArgumentError("an output path must be a non-empty string", key=key, found=path)
    leads_out = os.pardir in os.path.normpath(path).split(os.sep)
    if os.path.isabs(path) or path.startswith("~") or "://" in path or leads_out:
        raise ArgumentError(
            f"the output path '{path}' leads out of the run's folder",
            key=key,
            found=path,
            notes=["give a relative path: a run writes inside its work_dir"],
        )
    return path
