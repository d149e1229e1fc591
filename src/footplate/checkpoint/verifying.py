"""Verifies checkpoints."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import torch

from footplate import storage
from footplate.checkpoint import _safetensors, inert
from footplate.checkpoint._seal import Seal, check_seal, read_seal
from footplate.checkpoint.naming import BEST, SUFFIXES
from footplate.checkpoint.sharded import is_folder, joined
from footplate.checkpoint.sharded.layout import check_files, read_layout
from footplate.errors import CheckpointDamagedError, CheckpointError, FootplateError

_LONGEST_REASON = 200

_CONFIGS = (".py", ".yaml", ".yml", ".json", ".toml")


def verify(path: "str | os.PathLike[str]") -> Seal:
    """Verifies the whole content of a checkpoint and returns its seal.

    The seal of a file from another program has no digest. In this case, the checksums that torch stores for each
    tensor are verified; files of torch before 1.6 have no checksums. All files of a sharded checkpoint are verified.

    Raises:
        CheckpointDamagedError: The content is not what was written.
        CheckpointError: There is no such file, or it is no checkpoint.
    """
    name = os.fspath(path)
    if is_folder(name):
        with reading(name):
            layout = read_layout(name)
            check_files(name, layout)
        return layout.seal
    with opened(name) as stream:
        seal = check_seal(stream)
        if seal.digest is None:
            inert.check(stream)
        return seal


def seal_of(path: str) -> Seal:
    """Returns the seal of a checkpoint without verifying the content.

    Raises:
        CheckpointError: There is no such file, or it cannot be read.
    """
    if is_folder(path):
        with reading(path):
            return read_layout(path).seal
    with opened(path) as stream:
        return read_seal(stream)


def shapes_in(path: "str | os.PathLike[str]") -> dict[Any, Any]:
    """Returns the content of a checkpoint with its tensors on the device 'meta'; nothing is verified.

    Raises:
        CheckpointError: There is no such file, or it is no checkpoint.
    """
    name, file = os.fspath(path), os.fspath(path)
    tensors = {}
    with reading(name):
        if is_folder(name):
            layout = read_layout(name)
            tensors = {
                key: torch.empty(each.size, dtype=each.dtype, device="meta") for key, each in layout.tensors.items()
            }
            file = storage.join(name, layout.state)
        with opened(file) as stream:
            value = inert.read(stream, device="meta", seal=read_seal(stream).length).value
        value = joined(value, tensors) if tensors else value
        return dict(value) if isinstance(value, Mapping) else {"": value}


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Opens a checkpoint file and adds its path to errors that are raised in the block.

    Raises:
        CheckpointError: It is not there or cannot be read; errors of this kind from within get its name.
    """
    if path.endswith(_safetensors.SUFFIX):
        raise CheckpointError(
            f"'{path}' is a safetensors file, which holds weights alone and no digest",
            notes=["Pass a checkpoint: a .pth file or a .sharded folder."],
        )
    with reading(path):
        try:
            with storage.open_file(path) as stream:
                yield stream if stream.seekable() else io.BytesIO(stream.read())
        except CheckpointDamagedError as error:
            if path.endswith(_CONFIGS):
                raise CheckpointError(f"'{path}' is a config file, not a checkpoint") from error
            message = f"checkpoint '{path}' is damaged: {error.message}"
            raise CheckpointDamagedError(message, notes=error.notes) from error
        except CheckpointError as error:
            raise CheckpointError(f"cannot use checkpoint '{path}': {error.message}") from error


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Converts any exception in the block to an error that names the checkpoint at `path`.

    A damaged or hostile file must not stop a search for other checkpoints, whatever exception it causes.

    Raises:
        CheckpointError: Something else than a `FootplateError` was raised.
    """
    try:
        yield
    except FootplateError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint '{path}'", notes=storage.missing_path_notes(path)) from error
    except IsADirectoryError as error:
        raise _folder(path) from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint '{path}': {error.strerror or error}") from error
    except Exception as error:
        told = " ".join(str(error).split())[:_LONGEST_REASON]
        raise CheckpointError(f"cannot use checkpoint '{path}': {type(error).__name__}: {told}") from error


def _folder(path: str) -> CheckpointError:
    """Returns an error that suggests a checkpoint in the folder: the newest best one, or else the newest."""
    files = [storage.join(path, name) for name in storage.list_dir(path) if name.endswith(SUFFIXES)]
    best = [each for each in files if storage.base_name(each).startswith(BEST)]
    likely = max(best or files, key=lambda each: storage.status(each).modified, default=None)
    return CheckpointError(f"'{path}' is a folder, not a checkpoint", suggestion=likely)
