"""Loads checkpoints: verifies their content and does not execute code from them."""

import logging
import os
from collections.abc import Mapping
from typing import IO, Any

import torch

from footplate.checkpoint import _safetensors, inert
from footplate.checkpoint._seal import check_seal, read_seal
from footplate.checkpoint.finding import other_whole
from footplate.checkpoint.sharded.layout import is_folder
from footplate.checkpoint.sharded.reading import load_parts, load_parts_like
from footplate.checkpoint.trust import is_trusted, record
from footplate.checkpoint.verifying import opened, reading
from footplate.distributed.sharding import is_sharded
from footplate.errors import ArgumentError, CheckpointDamagedError, CheckpointError

_logger = logging.getLogger("footplate.checkpoint")
_MOST_NAMES = 5


def load_checkpoint(
    path: "str | os.PathLike[str]",
    map_location: "str | torch.device" = "cpu",
    *,
    trust: bool = False,
    like: torch.nn.Module | None = None,
) -> dict[str, Any]:
    """Verifies a checkpoint and returns its content.

    Nothing in the file is imported or called. Objects that other engines saved become `Inert` placeholders. Numpy
    arrays and numbers are returned as such.

    Args:
        path: A local path, or a target that fsspec supports; may be a `.safetensors` file.
        map_location: The device for the tensors; with 'meta' only their shapes are read and nothing is verified.
        trust: Whether the file may execute code, as with `torch.load(..., weights_only=False)`. Use it only for
            files that you created. The load is logged. `trusting(path)` has the same effect for all code that loads
            the file.
        like: A model. If its parameters are sharded, all ranks must call this function, and each rank reads only its
            own shards of a sharded checkpoint.

    Raises:
        CheckpointDamagedError: The content is not what was written; names the newest whole one beside it.
        CheckpointError: There is no such file, or it is no checkpoint.
        ArgumentError: There is no such device.
    """
    name, device = os.fspath(path), _checked_device(map_location)
    if name.endswith(_safetensors.SUFFIX):
        return _safetensors.load(name, device)
    try:
        if is_folder(name):
            with reading(name):
                if like is not None and is_sharded(like):
                    return load_parts_like(name, like, device)
                return load_parts(name, device)
        with opened(name) as stream:
            load = _load_trusting if trust or is_trusted(name) else _load
            loaded = load(stream, name, device)
    except CheckpointDamagedError as error:
        other = other_whole(name)
        if other is None:
            raise
        notes = [*error.notes, f"the newest whole one beside it is '{other}'"]
        raise CheckpointDamagedError(error.message, notes=notes) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"'{name}' holds no dict", found=type(loaded).__name__)
    return dict(loaded) if type(loaded) is not dict else loaded


def _load(stream: IO[bytes], name: str, device: torch.device) -> Any:
    seal = read_seal(stream) if device.type == "meta" else check_seal(stream)
    content = inert.read(stream, device=device, seal=seal.length)
    _tell_inert(name, content.inert_names)
    return content.value


def _load_trusting(stream: IO[bytes], name: str, device: torch.device) -> Any:
    check_seal(stream)
    record(name, stream)
    stream.seek(0)
    try:
        return torch.load(stream, map_location=device, weights_only=False)
    except Exception as error:
        raise CheckpointError(f"torch cannot load it: {type(error).__name__}: {error}") from error


def _tell_inert(path: str, names: Mapping[str, int]) -> None:
    if names:
        told = ", ".join(list(names)[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")
        _logger.info("checkpoint '%s': objects of %d kinds were not built: %s", path, len(names), told)


def _checked_device(location: "str | torch.device") -> torch.device:
    try:
        device = torch.device(location)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(f"tensors cannot go to the device '{location}'", key="map_location") from error
    return device
