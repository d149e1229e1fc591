"""Finds the checkpoint to resume from."""

import contextlib
import logging
import math
import os
import re
from collections.abc import Mapping

from footplate import storage
from footplate.checkpoint.naming import is_considered
from footplate.checkpoint.saving import POINTER
from footplate.checkpoint.sharded.layout import is_folder
from footplate.checkpoint.sharded.ownership import is_committed_here
from footplate.checkpoint.verifying import reading, seal_of, shapes_in, verify
from footplate.errors import CheckpointError

_logger = logging.getLogger("footplate.checkpoint")
_LONGEST_POINTER = 1 << 16  # bytes; no path is longer
_NUMBERED = re.compile(r"(\D*)(\d{1,18})(\D*)")
_RUN_KEYS = {"run", "optimizer", "param_schedulers", "message_hub"}


def read_pointer(folder: "str | os.PathLike[str]") -> str | None:
    """Returns the path in `last_checkpoint` in `folder`, which may not exist; None without a pointer."""
    try:
        pointer = os.fsdecode(storage.read_bytes(storage.join(folder, POINTER), _LONGEST_POINTER)).strip()
    except OSError:
        return None
    return None if "\0" in pointer else pointer or None  # some file systems leave zeros after a crash


def find_latest(folder: "str | os.PathLike[str]") -> str | None:
    """Returns the newest intact checkpoint of a run, or None if there is no such checkpoint.

    Searches `folder` and the folder of the checkpoint that `last_checkpoint` points to. The order is that of
    `candidates`. Best checkpoints, and files with weights but no training state, are skipped. The target of
    `last_checkpoint` is considered under any name, unless it is on another storage. Logs a warning for a pointer to
    another storage, for each damaged checkpoint that is skipped, and for a checkpoint at a later iteration than the
    selected one.

    Raises:
        CheckpointError: The folder cannot be read, or none is whole and one cannot be read: then nobody knows
            that there is nothing to go on with.
    """
    _warn_of_foreign_pointer(folder)
    unreadable: CheckpointError | None = None
    found = candidates(folder)
    for place, path in enumerate(found):
        try:
            verify(path)
            holds_run = bool(_RUN_KEYS & shapes_in(path).keys())
        except CheckpointError as error:
            if isinstance(error.__cause__, OSError):
                unreadable = unreadable or error
            _logger.warning("skipped: %s", "; ".join(line.strip() for line in str(error).splitlines()))
            continue
        if holds_run:
            _warn_of_farther(path, found[place + 1 :])
            return path
        _logger.info("skipped: checkpoint '%s' holds weights, but no run to go on with", path)
    if unreadable is not None:
        raise unreadable
    return None


def other_whole(path: "str | os.PathLike[str]") -> str | None:
    """Returns the newest intact checkpoint in the folder of `path` other than `path`, or None."""
    damaged = storage.absolute(path)
    with contextlib.suppress(CheckpointError):
        for candidate in candidates(storage.parent(damaged)):
            if candidate != damaged and _is_whole(candidate):
                return candidate
    return None


def _is_whole(path: str) -> bool:
    try:
        verify(path)
    except CheckpointError:
        return False
    return True


def candidates(folder: "str | os.PathLike[str]") -> list[str]:
    """Returns the absolute paths of the checkpoints of a run, newest first, including damaged ones.

    The target of `last_checkpoint` comes first. Only checkpoints that are both newer and at a later iteration precede
    it: they were written by a process that died before it could move the pointer. A newer time alone may come from a
    wrong clock. A pointer to another storage is ignored, and no connection to that storage is made.

    Raises:
        CheckpointError: The folder is there and cannot be read.
    """
    folders = [storage.absolute(folder)]
    pointer = _here(_pointer_here(folders[0]), folders[0])
    if pointer and storage.parent(pointer) not in folders:
        folders.append(storage.parent(pointer))
    found = [path for place in folders for path in _checkpoints_in(place)]
    if pointer and pointer not in found and storage.exists(pointer):
        found.append(pointer)
    ordered = sorted(found, key=_saved, reverse=True)
    if pointer not in ordered:
        return ordered
    later = ordered[: ordered.index(pointer)]
    front = [path for path in later if _progress(path) > _progress(pointer)] + [pointer]
    return front + [path for path in ordered if path not in front]


def _pointer_here(folder: str) -> str | None:
    """Returns the target of the pointer, or None if it is on another storage, which must not be contacted."""
    pointer = read_pointer(folder)
    return pointer if pointer and storage.is_same_storage(pointer, folder) else None


def _warn_of_foreign_pointer(folder: "str | os.PathLike[str]") -> None:
    pointer = read_pointer(folder)
    if pointer and not storage.is_same_storage(pointer, folder):
        _logger.warning(
            "The pointer '%s' names another storage and is ignored: %r. To resume from there, pass `--resume PATH`.",
            storage.join(folder, POINTER),
            pointer,
        )


def _warn_of_farther(taken: str, others: list[str]) -> None:
    """Warns if a run that started over left a checkpoint at a later iteration than the selected one."""
    nearer = [each for each in others if _is_numbered_before(storage.base_name(each), storage.base_name(taken))]
    at = _progress(taken)
    farther = {path: number for path in others if path not in nearer and at < (number := _progress(path)) < math.inf}
    if farther:
        path = max(farther, key=lambda each: farther[each])
        _logger.warning(
            "Resuming from '%s' (iteration %d). '%s' (iteration %d) is farther and is not taken%s. To resume from it, "
            "pass `--resume PATH`.",
            taken,
            at,
            path,
            farther[path],
            f", nor {len(farther) - 1} more" if len(farther) > 1 else "",
        )


def _is_numbered_before(name: str, other: str) -> bool:
    """Returns whether two names differ only in their number and that of `name` is lower; it need not be read then."""
    found, wanted = _NUMBERED.fullmatch(name), _NUMBERED.fullmatch(other)
    if not found or not wanted:
        return False
    return (found[1], found[3]) == (wanted[1], wanted[3]) and int(found[2]) < int(wanted[2])


def _here(pointer: str | None, folder: str) -> str | None:
    """Returns the target of a pointer, or its copy in `folder` if the folder was moved or copied.

    The file at the original path may belong to another run.
    """
    if pointer is None or storage.parent(pointer) == folder:
        return pointer
    here = storage.join(folder, storage.base_name(pointer))
    if not storage.exists(here):
        return pointer
    with contextlib.suppress(OSError, ImportError, ValueError):
        if storage.exists(pointer) and _saved(pointer) != _saved(here):
            return pointer
    return here


def _progress(path: str) -> float:
    """Returns the iteration of a checkpoint; infinity if it cannot be read, because it may be the latest."""
    try:
        meta = shapes_in(path).get("meta")
    except CheckpointError:
        return math.inf
    number = meta.get("iter", 0) if isinstance(meta, Mapping) else 0
    return number if isinstance(number, (int, float)) else 0


def _checkpoints_in(folder: str) -> list[str]:
    try:
        names = storage.list_dir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ImportError, ValueError) as error:  # fsspec raises the last two for an unknown protocol
        raise CheckpointError(f"cannot read folder '{folder}': {getattr(error, 'strerror', None) or error}") from error
    return [storage.join(folder, name) for name in names if is_considered(name)]


def is_written_here(path: str) -> bool:
    """Returns whether footplate wrote the checkpoint at `path`, judged by its seal or layout, which is not verified."""
    with contextlib.suppress(CheckpointError), reading(path):
        return is_committed_here(path) if is_folder(path) else seal_of(path).digest is not None
    return False


def _saved(path: str) -> int:
    with contextlib.suppress(CheckpointError), reading(path):
        return seal_of(path).saved or int(storage.status(path).modified * 1e9)
    return 0
