"""Loads and verifies checkpoints. Executes code from a file only if the user trusts it."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from footplate import storage
from footplate.checkpoint.addresses import local_file
from footplate.checkpoint.digest import sha256_of, verify_digest
from footplate.checkpoint.latest import find_first_resumable, find_other_intact, read_verified_outline
from footplate.checkpoint.memory_budget import memory_limit
from footplate.checkpoint.shard_layout import is_sharded_path
from footplate.checkpoint.sharded_reading import load_sharded
from footplate.checkpoint.torch_file import read_content
from footplate.checkpoint.verifying import SAFETENSORS_SUFFIX, naming_checkpoint, open_checkpoint
from footplate.errors import ArgumentError, CheckpointDamagedError, CheckpointError, import_optional
from footplate.messages import list_names

_logger = logging.getLogger("footplate.checkpoint")
_SHOWN_NAMES = 5
_SAFETENSORS_LENGTH_BYTES = 8  # the size of the length field at the start of the file
_SAFETENSORS_MEMORY_PER_BYTE = 27  # per byte of the header, as measured with the shortest possible entries
_trusted_paths: list[str] = []  # absolute paths of the active `trusting` blocks
_trusted_records: list[dict[str, str]] = []


def load_checkpoint(
    path: "str | os.PathLike[str]",
    map_location: "str | torch.device" = "cpu",
    *,
    trust: bool = False,
    like: torch.nn.Module | None = None,
    in_place: bool = False,
) -> dict[str, Any]:
    """Verifies a checkpoint and returns its content.

    Nothing in the file is imported or called. Objects that other engines saved become `OpaqueObject` placeholders.
    NumPy arrays are returned as arrays, and NumPy scalars as numbers.

    Args:
        path: A path on a storage backend that fsspec supports, or an address of weights, such as
            `torchvision://resnet50`; see `footplate.checkpoint.addresses`. The file may be a `.safetensors` file.
        map_location: The device for the tensors. With 'meta', only their shapes are read and nothing is verified.
        trust: Whether the file may execute code, as with `torch.load(..., weights_only=False)`. Set it only for files
            that you created. The load is logged. `trusting(path)` has the same effect for all code that loads the file.
        like: A model. If its parameters are sharded, all ranks must call this function, and each rank reads only its
            own shards of a sharded checkpoint.
        in_place: Whether to read `path` through fsspec instead of downloading it to the cache. A checkpoint to resume
            from is read in place, because a cached copy may be outdated.

    Raises:
        CheckpointDamagedError: The content does not match its checksum. The notes suggest the newest intact checkpoint
            in the folder.
        CheckpointError: The file does not exist or is not a checkpoint, or it cannot be downloaded.
        ArgumentError: The device does not exist.
    """
    name = os.fspath(path)
    try:
        device = torch.device(map_location)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(f"tensors cannot be moved to the device '{map_location}'", key="map_location") from error
    trust = trust or storage.absolute(name) in _trusted_paths
    file = name if in_place else local_file(name)
    if file.endswith(SAFETENSORS_SUFFIX):
        return _load_safetensors(file, device)
    try:
        return _load(file, device, trust=trust, like=like)
    except CheckpointDamagedError as error:
        if file != name:
            notes = [*error.notes, "Remove the file to download it again."]
            raise CheckpointDamagedError(error.message, notes=notes) from error
        if (other := find_other_intact(name)) is None:
            raise
        notes = [*error.notes, f"The newest intact checkpoint in this folder is '{other}'."]
        raise CheckpointDamagedError(error.message, notes=notes) from error


def load_latest(folder: "str | os.PathLike[str]") -> tuple[str, dict[str, Any] | None] | None:
    """Finds the newest intact checkpoint of a run as `find_latest` does, and loads it, reading it only once.

    Returns:
        The path and the content on the CPU, or None if there is no checkpoint. The content is None for a trusted file
        or a sharded checkpoint, because every rank must load such a checkpoint itself.

    Raises:
        CheckpointError: See `find_latest`.
    """

    def is_loaded_here(path: str) -> bool:
        return not is_sharded_path(path) and path not in _trusted_paths

    def read(path: str) -> Mapping[Any, Any]:
        return _load(path, torch.device("cpu")) if is_loaded_here(path) else read_verified_outline(path)

    found = find_first_resumable(folder, read)
    if found is None:
        return None
    path, content = found
    return path, dict(content) if is_loaded_here(path) else None


def _load(
    name: str, device: torch.device, *, trust: bool = False, like: torch.nn.Module | None = None
) -> dict[str, Any]:
    if is_sharded_path(name):
        with naming_checkpoint(name):
            return load_sharded(name, device, like)
    with open_checkpoint(name) as stream:
        if trust or storage.absolute(name) in _trusted_paths:
            verify_digest(stream)
            sha256 = sha256_of(stream)
            _logger.warning("Trusting checkpoint '%s' (sha256 %s): code in it may be executed.", name, sha256)
            if _trusted_paths:
                _trusted_records.append({"path": storage.absolute(name), "sha256": sha256})
            stream.seek(0)
            try:
                loaded = torch.load(stream, map_location=device, weights_only=False)
            except Exception as error:
                raise CheckpointError(f"PyTorch cannot load it: {type(error).__name__}: {error}") from error
        else:
            loaded, names, _ = read_content(stream, device=device)
            if names:
                shown = list_names(names, _SHOWN_NAMES)
                _logger.info(
                    "Checkpoint '%s' contains objects that were not instantiated, of these classes: %s.", name, shown
                )
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"'{name}' does not contain a dict", found=type(loaded).__name__)
    return dict(loaded) if type(loaded) is not dict else loaded


def _load_safetensors(path: str, device: torch.device) -> dict[str, torch.Tensor]:
    package = import_optional("safetensors.torch", extra="export", why=f"reading '{path}'")
    size = storage.status(path).size
    header = int.from_bytes(storage.read_bytes(path, _SAFETENSORS_LENGTH_BYTES), "little")
    if header > size - _SAFETENSORS_LENGTH_BYTES:
        raise CheckpointDamagedError(f"checkpoint '{path}' is damaged: its header is longer than the file")
    # The file, its tensors and the parsed header.
    if 2 * size + _SAFETENSORS_MEMORY_PER_BYTE * header > memory_limit(size):
        raise CheckpointError(f"cannot use checkpoint '{path}': it needs far more memory than its size justifies")
    try:
        tensors: dict[str, torch.Tensor] = package.load(storage.read_bytes(path))
    except OSError:
        raise
    except Exception as error:  # the package raises its own exception type and others
        raise CheckpointDamagedError(f"checkpoint '{path}' is damaged: {error}") from error
    return {key: value.to(device) for key, value in tensors.items()}


@contextmanager
def trusting(path: "str | os.PathLike[str] | None") -> Iterator[None]:
    """Allows one checkpoint to execute code when it is loaded anywhere within the block.

    The load is logged. Checkpoints that are saved within the block record its path and SHA-256 under `meta.trusted`.

    Args:
        path: The checkpoint. If it is None, no file is trusted.
    """
    if path is None:
        yield
        return
    _trusted_paths.append(storage.absolute(path))
    before = len(_trusted_records)
    try:
        yield
        if len(_trusted_records) == before:
            _logger.warning("'%s' was passed as trusted, but was not loaded.", os.fspath(path))
    finally:
        del _trusted_paths[-1], _trusted_records[before:]


def trusted_files(before: Sequence[Mapping[str, str]] = ()) -> list[dict[str, str]]:
    """Returns the path and SHA-256 of every trusted file, without duplicates.

    Args:
        before: The trusted files that the loaded checkpoint lists. They precede the others in the result.
    """
    found = [*before, *_trusted_records]
    return [dict(each) for place, each in enumerate(found) if each not in found[:place]]


def trusted_in(checkpoint: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the trusted files that a checkpoint lists in its metadata."""
    meta = checkpoint.get("meta")
    found = meta.get("trusted") if isinstance(meta, Mapping) else None
    return [dict(each) for each in found if isinstance(each, Mapping)] if isinstance(found, (list, tuple)) else []
