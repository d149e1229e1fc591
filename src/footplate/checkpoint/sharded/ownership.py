"""Identifies the files of a sharded checkpoint that footplate wrote; other files are never removed or replaced."""

import contextlib
import os
import re
from collections.abc import Iterable

from footplate import storage
from footplate.checkpoint.sharded.layout import LAYOUT, is_folder
from footplate.errors import CheckpointError

_SHARD = r"(rank_\d+-[0-9a-f]+\.bin|state-[0-9a-f]+\.pth)"
_WRITTEN = re.compile(rf"{_SHARD}|\.({_SHARD}|{re.escape(LAYOUT)})\.[0-9a-f]{{8}}\.partial")
_BEGINNING = re.compile(rb'\s*\{\s*"sha256":\s*"[0-9a-f]{64}",\s*"layout":\s*\{\s*"format":\s*"footplate-sharded ')
_BEGINNING_BYTES = 256
_SHOWN_NAMES = 3


def is_committed_here(folder: str) -> bool:
    """Returns whether the folder has a layout that footplate wrote; the layout is not verified.

    Raises:
        OSError: The layout cannot be read.
    """
    try:
        with storage.open_file(storage.join(folder, LAYOUT)) as stream:
            return _BEGINNING.match(stream.read(_BEGINNING_BYTES)) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_writable(folder: str) -> None:
    """Checks whether a sharded checkpoint may be written to a folder.

    Raises:
        CheckpointError: The folder holds files that footplate did not write, or is no folder.
        OSError: It cannot be read.
    """
    if not storage.exists(folder):
        if storage.is_link(folder):
            raise CheckpointError("it is a symbolic link that leads nowhere", notes=["Remove the link."])
        return
    if is_committed_here(folder):
        return
    try:
        foreign = [name for name in storage.list_dir(folder) if not _WRITTEN.fullmatch(name)]
    except NotADirectoryError as error:
        raise CheckpointError("it is a file, not a folder", notes=["Choose another name, or move the file."]) from error
    if foreign:
        told = ", ".join(foreign[:_SHOWN_NAMES]) + (", ..." if len(foreign) > _SHOWN_NAMES else "")
        raise CheckpointError(
            f"it holds files that footplate did not write: {told}", notes=["Choose another folder, or move the files."]
        )


def remove_shards(folder: str) -> list[str]:
    """Removes the files that footplate wrote into a folder, the layout first, and then the folder if it is empty.

    For a symbolic link to a folder, only the link is removed.

    Returns:
        The names of the files that were kept because footplate did not write them.

    Raises:
        OSError: Something cannot be removed.
    """
    if storage.is_link(folder):
        storage.remove(folder.rstrip("/"))
        return []
    if not storage.exists(folder):
        return []
    try:
        names = storage.list_dir(folder)
    except NotADirectoryError:  # a file that footplate did not write
        return [storage.base_name(folder)]
    if is_committed_here(folder):
        storage.remove(storage.join(folder, LAYOUT))
        names.remove(LAYOUT)
    elif not all(map(_WRITTEN.fullmatch, names)):
        return names
    left = remove_written(folder, names)
    if not left:
        storage.remove_empty_folder(folder)
    return left


def remove_written(folder: str, names: Iterable[str]) -> list[str]:
    """Removes the given files that footplate wrote; returns the names of the others.

    Raises:
        OSError: A file cannot be removed.
    """
    left = []
    for name in names:
        path = storage.join(folder, name)
        if not _WRITTEN.fullmatch(name) or (storage.is_local(path) and os.path.isdir(path)):
            left.append(name)
        else:
            storage.remove(path)
    return left


def clean_unfinished(folder: str, *, but: str) -> list[str]:
    """Removes unfinished sharded checkpoints in `folder`, except the one named `but`.

    Only folders without other files are removed. No other run can be saving there, because a run locks its work_dir.

    Returns:
        The paths of the removed folders.
    """
    removed = []
    for name in storage.list_dir(folder) if storage.exists(folder) else ():
        path = storage.join(folder, name)
        if is_folder(name) and name != but and not storage.is_link(path):
            with contextlib.suppress(OSError):  # a folder that cannot be read or removed must not stop a save
                if _is_unfinished(path):
                    remove_shards(path)
                    removed.append(path)
    return removed


def _is_unfinished(folder: str) -> bool:
    names = storage.list_dir(folder)
    return bool(names) and all(map(_WRITTEN.fullmatch, names))
