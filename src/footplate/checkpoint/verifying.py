"""Telling whole checkpoints from damaged ones."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import torch

from footplate import storage
from footplate.checkpoint import inert
from footplate.checkpoint._seal import Seal, check_seal, read_seal
from footplate.checkpoint.sharded import is_folder, joined
from footplate.checkpoint.sharded.layout import check_files, read_layout
from footplate.errors import CheckpointDamagedError, CheckpointError

_SUFFIXES = (".pth", ".pt", ".ckpt")


def verify(path: "str | os.PathLike[str]") -> Seal:
    """Reads a checkpoint through and returns its seal.

    The seal of a file that another program wrote has no digest; there the checksums that torch keeps of every
    tensor are compared (files of torch before 1.6 have none). Of a checkpoint in parts every file is read.

    Raises:
        CheckpointDamagedError: The content is not what was written.
        CheckpointError: There is no such file, or it is no checkpoint.
    """
    name = os.fspath(path)
    if is_folder(name):
        layout = read_layout(name)
        check_files(name, layout)
        return layout.seal
    with opened(name) as stream:
        seal = check_seal(stream)
        if seal.digest is None:
            inert.check(stream)
        return seal


def shapes_in(path: "str | os.PathLike[str]") -> dict[Any, Any]:
    """Returns what a checkpoint holds, its tensors without content, on the device 'meta'; nothing is verified.

    Raises:
        CheckpointError: There is no such file, or it is no checkpoint.
    """
    name, tensors = os.fspath(path), {}
    if is_folder(name):
        layout = read_layout(name)
        tensors = {key: torch.empty(each.size, dtype=each.dtype, device="meta") for key, each in layout.tensors.items()}
        name = storage.join(name, layout.state)
    with opened(name) as stream:
        value = inert.read(stream, device="meta", seal=read_seal(stream).length).value
        value = joined(value, tensors) if tensors else value
    return dict(value) if isinstance(value, Mapping) else {"": value}


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Opens a checkpoint.

    Raises:
        CheckpointError: It is not there or cannot be read; errors of this kind from within get its name.
    """
    try:
        with storage.open_file(path) as stream:
            yield stream if stream.seekable() else io.BytesIO(stream.read())
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint '{path}'", notes=storage.sought(path)) from error
    except IsADirectoryError as error:
        raise _folder(path) from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint '{path}': {error.strerror or error}") from error
    except CheckpointDamagedError as error:
        message = f"checkpoint '{path}' is damaged: {error.message}"
        raise CheckpointDamagedError(message, notes=error.notes) from error
    except CheckpointError as error:
        raise CheckpointError(f"cannot use checkpoint '{path}': {error.message}") from error


def _folder(path: str) -> CheckpointError:
    """Names the checkpoint that a work_dir was most likely given for: the best one, else the newest."""
    files = [storage.join(path, name) for name in storage.list_dir(path) if name.endswith(_SUFFIXES)]
    best = [each for each in files if storage.base_name(each).startswith("best_")]
    likely = max(best or files, key=lambda each: storage.status(each).modified, default=None)
    return CheckpointError(f"'{path}' is a folder, not a checkpoint", suggestion=likely)
