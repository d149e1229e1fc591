"""Writes checkpoints atomically."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from footplate import storage
from footplate.checkpoint._plain import bytes_in, to_plain
from footplate.checkpoint._seal import SealingSink
from footplate.checkpoint._words import readable_size
from footplate.checkpoint.sharded.layout import is_folder
from footplate.checkpoint.sharded.ownership import remove_shards
from footplate.errors import CheckpointError
from footplate.storage import Sink

POINTER = "last_checkpoint"
_logger = logging.getLogger("footplate.checkpoint")


def save_checkpoint(state: Mapping[str, Any], path: "str | os.PathLike[str]") -> None:
    """Writes `state` and its digest to a file atomically.

    The state is written to a temporary file, which is synced and renamed to `path`. The result can be loaded with
    `torch.load(path, weights_only=True)`. Temporary files of dead processes in the folder are removed.

    Args:
        state: Tensors, numbers, strings, None, lists, tuples and dicts. Numpy arrays become tensors, numpy scalars
            become numbers, and other mappings become dicts.
        path: A local path, or a target that fsspec supports.

    Raises:
        CheckpointError: The state holds something else, there is too little space, or the file cannot be
            written; what was there before is untouched.
    """
    commit_plain(to_plain(state), os.fspath(path))


def commit_plain(plain: Mapping[str, Any], path: str, through: Callable[[Sink], Sink] = lambda sink: sink) -> None:
    """Writes a state that is already converted by `to_plain`; see `save_checkpoint`.

    Args:
        plain: The state.
        path: The output file.
        through: Wraps the sink that receives the bytes.

    Raises:
        CheckpointError: There is too little space, or the file cannot be written.
    """

    def write(sink: Sink) -> None:
        sealing = SealingSink(through(sink))
        torch.save(plain, sealing)  # type: ignore[arg-type]
        sealing.seal()

    folder = storage.parent(storage.absolute(path))
    try:
        storage.clean_stale(folder)
        _check_space(folder, path, bytes_in(plain))
        storage.commit_file(path, write)
    except OSError as error:
        raise _refused("save", path, error) from error


def write_pointer(folder: "str | os.PathLike[str]", path: "str | os.PathLike[str]") -> None:
    """Writes the absolute path of a checkpoint to `last_checkpoint` in `folder`.

    Raises:
        CheckpointError: It cannot be written; the pointer stays where it was.
    """
    pointer = storage.join(folder, POINTER)
    try:
        storage.commit_bytes(pointer, os.fsencode(storage.absolute(path)))
    except OSError as error:
        raise _refused("write", pointer, error) from error


def remove_checkpoint(path: "str | os.PathLike[str]") -> None:
    """Removes a checkpoint if it exists.

    The layout of a sharded checkpoint is removed first, so that a partly removed checkpoint is never taken for an
    intact one. Files in its folder that footplate did not write are kept, with a warning. For a symbolic link, only
    the link is removed.

    Raises:
        CheckpointError: It cannot be removed.
    """
    try:
        if not is_folder(os.fspath(path)):
            storage.remove(path)
        elif left := remove_shards(os.fspath(path)):
            _logger.warning("'%s' stays: it holds files that footplate did not write: %s", path, ", ".join(left[:3]))
    except OSError as error:
        raise _refused("remove", os.fspath(path), error) from error


def _check_space(folder: str, path: str, needed: int) -> None:
    free = storage.free_space(folder)
    if free is not None and free < needed:
        raise CheckpointError(
            f"cannot save '{path}': it needs {readable_size(needed)}, and {readable_size(free)} are free"
        )


def _refused(verb: str, path: str, error: OSError) -> CheckpointError:
    return CheckpointError(f"cannot {verb} '{path}': {error.strerror or error}")
