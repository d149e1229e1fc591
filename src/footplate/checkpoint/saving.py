"""Writing checkpoints that are there whole or not there."""

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
    """Commits `state` to one file, digest included.

    The file appears under `path` whole, or not at all: it is written aside, synced and renamed. Plain
    `torch.load(path, weights_only=True)` opens it. What dead processes left half written in the folder is
    removed on the way.

    Args:
        state: Tensors, numbers, strings, None, lists, tuples and dicts; numpy arrays become tensors, numpy
            scalars numbers, mappings of other types dicts.
        path: A local path, or a target that fsspec knows.

    Raises:
        CheckpointError: The state holds something else, there is too little space, or the file cannot be
            written; what was there before is untouched.
    """
    commit_plain(to_plain(state), os.fspath(path))


def commit_plain(plain: Mapping[str, Any], path: str, through: Callable[[Sink], Sink] = lambda sink: sink) -> None:
    """Does what `save_checkpoint` does, with a state that holds nothing else than it should.

    Args:
        plain: The state.
        path: Where to.
        through: Gives what the bytes go through.

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
    """Lets `last_checkpoint` in `folder` name a checkpoint, by its absolute path.

    Raises:
        CheckpointError: It cannot be written; the pointer stays where it was.
    """
    pointer = storage.join(folder, POINTER)
    try:
        storage.commit_bytes(pointer, os.fsencode(storage.absolute(path)))
    except OSError as error:
        raise _refused("write", pointer, error) from error


def remove_checkpoint(path: "str | os.PathLike[str]") -> None:
    """Removes a checkpoint; one that is gone already is no error.

    A sharded checkpoint loses its layout first, so that it is never taken for a whole one. Files in its folder that
    footplate did not write stay, with a warning. Of a symbolic link only the link is removed.

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
