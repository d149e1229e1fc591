"""Reading checkpoints back: verified, and without executing anything that stands in them."""

import logging
import os
import pickle
from typing import IO, Any

import torch

from footplate import storage
from footplate.checkpoint._seal import Seal, check_seal
from footplate.errors import CheckpointDamagedError, CheckpointError

_logger = logging.getLogger("footplate.checkpoint")


def verify(path: "str | os.PathLike[str]") -> Seal:
    """Reads a checkpoint through and returns its seal; files of other engines have no digest in it.

    Raises:
        CheckpointDamagedError: The content is not what was written.
        CheckpointError: There is no such file, or it cannot be read.
    """
    name = os.fspath(path)
    with _open(name) as stream:
        return check_seal(stream, name)


def load_checkpoint(
    path: "str | os.PathLike[str]", map_location: "str | torch.device" = "cpu", *, trust: bool = False
) -> dict[str, Any]:
    """Returns what a checkpoint holds, after checking that it is what was written.

    Args:
        path: A local path, or a target that fsspec knows.
        map_location: The device for its tensors.
        trust: Lets the file execute code, as `torch.load(..., weights_only=False)` does. For files of your
            own making only; a line in the log records it.

    Raises:
        CheckpointDamagedError: The content is not what was written.
        CheckpointError: There is no such file, or it is no checkpoint.
    """
    name = os.fspath(path)
    if trust:
        _logger.warning("trusting checkpoint '%s': code in it may be executed", name)
    with _open(name) as stream:
        check_seal(stream, name)
        stream.seek(0)
        try:
            loaded = torch.load(stream, map_location=map_location, weights_only=not trust)
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
            raise CheckpointDamagedError(f"'{name}' is no checkpoint, or damaged: {error}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"'{name}' holds no dict", found=type(loaded).__name__)
    return loaded


def _open(path: str) -> IO[bytes]:
    try:
        return storage.open_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint '{path}'") from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint '{path}': {error.strerror or error}") from error
