"""Names the checkpoints of a run, points to the one to resume from, and finds the newest.

Each of these words means one checkpoint, in code, messages and docs:

| word | checkpoint | MMEngine's name, kept in files and arguments |
|---|---|---|
| pointer | the file whose target `resume=True` tries first | `last_checkpoint` |
| newest | the pointer's target or, if it is damaged, the intact one that was saved last; see `find_newest` | |
| last | the one that this process has saved or resumed from last; `BackgroundSaver.last`, for messages | `last_ckpt` |
| final | the one of the last iteration, which also marks the end of the run | `save_last` |
"""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from footplate import storage
from footplate.checkpoint.contents import explaining, naming_checkpoint, read_outline, recorded_digest, verify
from footplate.checkpoint_names import BEST, SHARDED_SUFFIX, SUFFIXES, sharded_name
from footplate.errors import ArgumentError, CheckpointError

POINTER = "last_checkpoint"
_TEMPLATE = re.compile(r"[^/\0{}]*\{0?(:(0\d)?d?)?\}[^/\0{}]*")
_logger = logging.getLogger("footplate.checkpoint")
_MAX_POINTER_BYTES = 1 << 16
_RUN_KEYS = {"run", "optimizer", "param_schedulers", "message_hub"}


def checked_template(value: Any) -> str:
    """Checks that a run can resume from files named with the template `filename_tmpl`, and returns the template.

    Raises:
        ArgumentError: The template has no placeholder for the number, or files with such names are ignored when a run
            resumes.
    """
    if (
        not isinstance(value, str)
        or not _TEMPLATE.fullmatch(value)
        or not is_considered(value)
        or value.endswith(SHARDED_SUFFIX)  # `sharded_name` derives these names from the template
    ):
        raise ArgumentError(
            "filename_tmpl must be a file name with '{}' for the number and the suffix .pth, .pt or .ckpt",
            key="filename_tmpl",
            found=value,
            notes=[f"It must not begin with '.' or '{BEST}', because such files are ignored when a run resumes."],
        )
    return value


def folder_below(out_dir: str, work_dir: str) -> str:
    """Returns the subfolder of CheckpointHook's `out_dir` where the run in `work_dir` saves checkpoints."""
    return storage.join(out_dir, os.path.basename(work_dir.rstrip(os.sep)))


def is_considered(name: str) -> bool:
    """Checks whether a run can resume from a file with this name.

    The pointer's target may have any name.

    Example:
        >>> is_considered("iter_4.pth"), is_considered("best_mIoU_iter_4.pth"), is_considered("scalars.json")
        (True, False, False)
    """
    return name.endswith((*SUFFIXES, SHARDED_SUFFIX)) and not name.startswith((".", BEST))


def number_in(template: str, name: str) -> int | None:
    """Returns the number in the name of a checkpoint, or None if the name does not match `template`.

    Example:
        >>> number_in("iter_{}.pth", "iter_12.pth"), number_in("iter_{}.pth", "iter_12.sharded")
        (12, 12)
        >>> number_in("iter_{}.pth", "precious.pth") is None
        True
    """
    for form in (template, sharded_name(template)):
        start, end = re.split(r"\{.*\}", form)
        match = re.fullmatch(rf"{re.escape(start)}(\d{{1,18}}){re.escape(end)}", name)
        if match and form.format(int(match[1])) == name:
            return int(match[1])
    return None


def is_written_by_footplate(path: str) -> bool:
    """Checks whether the checkpoint at `path` has a digest, which only footplate writes. Does not verify the digest."""
    with contextlib.suppress(CheckpointError):
        return recorded_digest(path).sha256 is not None
    return False


def write_pointer(folder: "str | os.PathLike[str]", path: "str | os.PathLike[str]") -> None:
    """Writes the absolute path of a checkpoint to the pointer in `folder`.

    Raises:
        CheckpointError: The pointer cannot be written. The previous pointer is kept.
    """
    pointer = storage.join(folder, POINTER)
    with explaining(f"cannot write '{pointer}'"):
        storage.commit_bytes(pointer, os.fsencode(storage.absolute(path)))


def read_pointer(folder: "str | os.PathLike[str]") -> str | None:
    """Returns the target of the pointer in `folder`, or None if that file is missing, unreadable or empty.

    The path may be outdated.
    """
    try:
        pointer = os.fsdecode(storage.read_bytes(storage.join(folder, POINTER), _MAX_POINTER_BYTES)).strip()
    except OSError:
        return None
    if "\0" in pointer:  # some file systems leave zeros after a crash
        return None
    return pointer or None


def relocate(path: str, folder: str) -> str:
    """Returns the path of the file in `folder` with the same name as `path`, or `path` if there is no such file.

    Checkpoints record absolute paths, which are outdated if the run's folder has been moved or copied.
    """
    moved = storage.join(folder, storage.base_name(path))
    return moved if storage.exists(moved) else path


def find_newest(folder: "str | os.PathLike[str]") -> str | None:
    """Returns the path of a run's newest intact checkpoint with a training state, or None if the run has none.

    Tries the candidates in the order of `list_candidates`. Skips files that contain weights but no training state. Logs
    a warning for each damaged checkpoint.

    Args:
        folder: The run's work_dir or `out_dir`.

    Raises:
        CheckpointError: The folder cannot be read, or there is no intact checkpoint and at least one checkpoint could
            not be read.
    """
    newest = find_first_resumable(folder, read_verified_outline)
    return None if newest is None else newest[0]


def read_verified_outline(path: str) -> Mapping[Any, Any]:
    """Verifies a checkpoint and returns its content, with tensors on the meta device.

    Raises:
        CheckpointError: The checkpoint is damaged or cannot be read.
    """
    verify(path)
    return read_outline(path).content


def find_first_resumable(
    folder: "str | os.PathLike[str]", read: Callable[[str], Mapping[Any, Any]]
) -> tuple[str, Mapping[Any, Any]] | None:
    """Returns the path and content of the first intact candidate with a training state, or None; see `find_newest`.

    `read` is a function that verifies a checkpoint and returns its content.
    """
    unreadable: CheckpointError | None = None
    for path in list_candidates(folder):
        try:
            content = read(path)
        except CheckpointError as error:
            if unreadable is None and isinstance(error.__cause__, OSError):
                unreadable = error
            _logger.warning("Skipped: %s", "; ".join(line.strip() for line in str(error).splitlines()))
            continue
        if _RUN_KEYS & content.keys():
            return path, content
        _logger.info("Skipping checkpoint '%s', because it contains no training state.", path)
        del content  # free the memory before reading the next one
    if unreadable is not None:
        raise unreadable
    return None


def list_candidates(folder: "str | os.PathLike[str]") -> list[str]:
    """Returns the absolute paths of a run's checkpoints, including damaged ones.

    The pointer's target comes first, followed by the other checkpoints in its folder and in `folder`, newest
    first. If the folder was moved, the target no longer exists. If the folder was copied, the target is in the original
    folder, which has its own pointer. In both cases, the file with the same name in `folder` comes first. A
    target on a different storage backend is ignored with a warning, without contacting that backend.

    Raises:
        CheckpointError: The folder exists but cannot be read.
    """
    home = storage.absolute(folder)
    folders = [home]
    target = read_pointer(home) or ""
    if target and urlsplit(storage.absolute(target))[:2] != urlsplit(home)[:2]:  # the protocol, and the bucket or host
        _logger.warning(
            "Ignoring the pointer '%s', because its target is on a different storage backend: %r. To resume from "
            "the target, pass its path: `--resume PATH`, or resume=True and load_from=PATH in Python.",
            storage.join(home, POINTER),
            target,
        )
        target = ""
    elif target and storage.exists(target) and not storage.exists(storage.join(storage.parent(target), POINTER)):
        folders.append(storage.parent(target))
    elif target:
        target = storage.join(home, storage.base_name(target))
    paths = {target} if storage.base_name(target) and storage.exists(target) else set()
    for path in folders:
        try:
            paths |= {storage.join(path, name) for name in storage.list_dir(path) if is_considered(name)}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise CheckpointError(f"cannot read folder '{path}': {error.strerror or error}") from error
    return sorted(paths, key=lambda path: (path == target, _saved(path)), reverse=True)


def _saved(path: str) -> int:
    """Returns a checkpoint's save time in nanoseconds, or 0 if it cannot be read."""
    with contextlib.suppress(CheckpointError), naming_checkpoint(path):
        return recorded_digest(path).saved or int(storage.status(path).modified * 1e9)
    return 0
