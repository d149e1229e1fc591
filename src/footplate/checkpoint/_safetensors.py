"""Reads and writes safetensors files; requires the optional package safetensors."""

from collections.abc import Mapping
from typing import Any

import torch

from footplate import storage
from footplate.checkpoint.inert.budget import most_memory
from footplate.errors import CheckpointDamagedError, CheckpointError, MissingExtraError

SUFFIX = ".safetensors"
_LENGTH_BYTES = 8  # the size of the length field at the start of the file
_MEMORY_PER_BYTE = 27  # of the header, as measured with the shortest possible entries


def save(tensors: Mapping[str, torch.Tensor], path: str) -> None:
    """Writes tensors to `path` atomically.

    Raises:
        MissingExtraError: The package is not installed.
        OSError: The file cannot be written.
    """
    # The format supports neither shared memory nor strides.
    alone = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    storage.commit_bytes(path, _package(f"writing '{path}'").save(alone, metadata={"format": "pt"}))


def load(path: str, device: torch.device) -> dict[str, torch.Tensor]:
    """Returns the tensors in `path`.

    Raises:
        MissingExtraError: The package is not installed.
        CheckpointDamagedError: It is no such file.
        CheckpointError: Its header takes far more memory than the file is long.
        OSError: It cannot be read.
    """
    package = _package(f"reading '{path}'")
    size, header = storage.status(path).size, int.from_bytes(storage.read_bytes(path, _LENGTH_BYTES), "little")
    if header > size - _LENGTH_BYTES:
        raise CheckpointDamagedError(f"checkpoint '{path}' is damaged: its header is longer than the file")
    if 2 * size + _MEMORY_PER_BYTE * header > most_memory(size):  # the file, its tensors and the parsed header
        raise CheckpointError(f"cannot use checkpoint '{path}': it asks for far more memory than it is long")
    try:
        tensors: dict[str, torch.Tensor] = package.load(storage.read_bytes(path))
    except OSError:
        raise
    except Exception as error:  # the package raises its own exception type and others
        raise CheckpointDamagedError(f"checkpoint '{path}' is damaged: {error}") from error
    return {key: value.to(device) for key, value in tensors.items()}


def _package(why: str) -> Any:
    try:
        import safetensors.torch  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingExtraError("safetensors", extra="export", why=why) from error
    return safetensors.torch
