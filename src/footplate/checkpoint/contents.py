"""Opens and verifies checkpoints, reads their outlines, and finds their weights."""

import io
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, NamedTuple

import numpy as np
import torch

from footplate import storage
from footplate.checkpoint.digest import Digest, read_digest
from footplate.checkpoint.serializable import join_state, walk
from footplate.checkpoint.shard_layout import ShardLayout, main_file, parse_layout
from footplate.checkpoint.torch_file import describe_briefly, read_content, verify_content
from footplate.checkpoint.unpickler import OpaqueObject
from footplate.checkpoint_names import SAFETENSORS_SUFFIX, STATE, SUFFIXES, is_sharded_path
from footplate.errors import CheckpointDamagedError, CheckpointError, FootplateError

_CONFIG_SUFFIXES = (".py", ".yaml", ".yml", ".json")
_MAX_KEYS = 10
WHOLE_MODEL = "For a whole model, run torch.save(model.state_dict(), path) in the code that created the model."
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "module", "weights")


def verify(path: "str | os.PathLike[str]") -> Digest:
    """Verifies the entire content of a checkpoint and returns its digest.

    Files from other programs have no digest, so this function verifies the checksums that `torch.save` stores for each
    tensor. Files written by PyTorch versions before 1.6 have no checksums either, so they are read completely instead.
    For a sharded checkpoint, verifies all files.

    Args:
        path: A checkpoint file, or the folder of a sharded checkpoint.

    Raises:
        CheckpointDamagedError: The content does not match its checksum.
        CheckpointError: The file does not exist or is not a checkpoint.
    """
    name = os.fspath(path)
    with open_checkpoint(name) as stream:
        digest = verify_content(stream)
    if is_sharded_path(name):
        layout = read_layout(name, "meta")
        for file in layout.files:
            with open_shards(name, layout, file) as stream:
                verify_content(stream)
    return digest


def recorded_digest(path: str) -> Digest:
    """Returns the recorded digest of a checkpoint, without verifying the content.

    Raises:
        CheckpointError: The file does not exist or cannot be read.
    """
    with open_checkpoint(path) as stream:
        return read_digest(stream)


def read_layout(folder: str, device: "str | torch.device") -> ShardLayout:
    """Reads the state and the layout of a sharded checkpoint.

    Args:
        folder: The folder of the checkpoint.
        device: The device for the tensors in the state. With 'meta', nothing is verified.

    Raises:
        CheckpointError: The folder does not exist or is not a checkpoint.
    """
    with open_checkpoint(folder) as stream:
        return parse_layout(*read_content(stream, device=device))


@contextmanager
def open_shards(folder: str, layout: ShardLayout, name: str) -> Iterator[IO[bytes]]:
    """Opens a shard file, and adds its path to errors raised in the block.

    Raises:
        CheckpointDamagedError: The file is missing, or does not match the digest in the layout.
        CheckpointError: The file cannot be read, or the block raised an error.
    """
    path = storage.join(folder, name)
    if not storage.exists(path):
        raise CheckpointDamagedError(f"checkpoint '{folder}' is damaged: {name} is missing")
    with open_checkpoint(path) as stream:
        if read_digest(stream).sha256 != layout.files[name]:
            raise CheckpointDamagedError(f"the shard's digest differs from the one recorded in {STATE}")
        yield stream


class Outline(NamedTuple):
    """The content of a checkpoint, with tensors on the meta device."""

    content: dict[Any, Any]  # {"": object} if the checkpoint is not a dict
    digest: Digest  # the recorded digest


def read_outline(path: "str | os.PathLike[str]") -> Outline:
    """Returns the content of a checkpoint without verifying it. Tensors are on the meta device.

    Raises:
        CheckpointError: The file does not exist or is not a checkpoint.
    """
    name = os.fspath(path)
    if is_sharded_path(name):
        layout = read_layout(name, "meta")
        with naming_checkpoint(name):
            value = join_state(layout.state, layout.empty_tensors("meta"))
            return Outline(dict(value), layout.digest)
    with open_checkpoint(name) as stream:
        value, digest = read_content(stream, device="meta")
        return Outline(dict(value) if isinstance(value, Mapping) else {"": value}, digest)


@contextmanager
def open_checkpoint(path: str) -> Iterator[IO[bytes]]:
    """Opens a checkpoint file, or the state of a sharded checkpoint. Adds its path to errors raised in the block.

    Raises:
        CheckpointError: The file does not exist or cannot be read, or the block raised an error.
    """
    if path.endswith(SAFETENSORS_SUFFIX):
        raise CheckpointError(
            f"'{path}' is a safetensors file, which is not supported here",
            notes=["Pass a .pth, .pt or .ckpt file, or a .sharded folder."],
        )
    with naming_checkpoint(path):
        try:
            with storage.open_file(main_file(path)) as stream:
                yield stream if stream.seekable() else io.BytesIO(stream.read())
        except CheckpointDamagedError as error:
            if path.endswith(_CONFIG_SUFFIXES):
                raise CheckpointError(f"'{path}' is a config file, not a checkpoint") from error
            message = f"checkpoint '{path}' is damaged: {error.message}"
            raise CheckpointDamagedError(message, notes=error.notes) from error
        except CheckpointError as error:
            raise CheckpointError(f"cannot use checkpoint '{path}': {error.message}", notes=error.notes) from error


@contextmanager
def explaining(failure: str) -> Iterator[None]:
    """Converts an OSError in the block to a CheckpointError that begins with `failure`, e.g. "cannot save 'a.pth'"."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"{failure}: {error.strerror or error}") from error


@contextmanager
def naming_checkpoint(path: str) -> Iterator[None]:
    """Converts any exception in the block to a CheckpointError that mentions `path`.

    Reading a damaged or malicious file may raise any exception, which must not stop the search for other checkpoints.

    Raises:
        CheckpointError: The block raised an exception that is not a `FootplateError`.
    """
    try:
        yield
    except FootplateError:
        raise
    except FileNotFoundError as error:
        if is_sharded_path(path) and storage.exists(path):
            raise CheckpointError(f"checkpoint '{path}' is incomplete: {STATE} is missing") from None
        raise CheckpointError(f"checkpoint '{path}' does not exist", notes=storage.missing_path_notes(path)) from error
    except IsADirectoryError as error:
        weights = "model.safetensors"  # transformers saves them next to the state of the optimizer
        files = [storage.join(path, name) for name in storage.list_dir(path) if name.endswith((weights, *SUFFIXES))]
        newest = max(files, key=lambda file: (weights in file, storage.status(file).modified), default=None)
        raise CheckpointError(f"'{path}' is a folder, not a checkpoint", suggestion=newest) from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint '{path}': {error.strerror or error}") from error
    except Exception as error:
        raise CheckpointError(f"cannot use checkpoint '{path}': {describe_briefly(error)}") from error


def opaque_names(content: Any) -> list[str]:
    """Returns the sorted names of the classes and functions that unpickling replaced with placeholders."""
    return sorted({entry.name for entry in walk(content) if isinstance(entry, OpaqueObject)})


def weights_of(content: Any, source: str = "a checkpoint") -> "OrderedDict[str, Any]":
    """Returns the weights in a checkpoint (from footplate or another engine) or in a plain state dict.

    The result contains tensors and extra states. NumPy arrays are converted to tensors.

    Args:
        content: The result of `load_checkpoint`.
        source: The name of the checkpoint, for the error message.

    Raises:
        CheckpointError: The content has no weights.
    """
    mapping = _as_mapping(content)
    for candidate in (*map(mapping.get, _WEIGHT_KEYS), mapping):
        weights: OrderedDict[str, Any] = OrderedDict()
        inner = _as_mapping(candidate)
        for name, value in inner.items():
            if isinstance(value, np.ndarray):
                with suppress(TypeError):  # torch does not support all dtypes of numpy
                    value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C"))
            if isinstance(value, torch.Tensor):
                weights[str(name)] = value.detach()
            elif str(name).endswith("_extra_state"):
                weights[str(name)] = value
        if any(isinstance(value, torch.Tensor) for value in weights.values()):
            versions = getattr(inner, "_metadata", {})
            weights._metadata = versions if isinstance(versions, Mapping) else {}  # type: ignore[attr-defined]
            return weights
    description = ", ".join(map(str, list(mapping)[:_MAX_KEYS])) if mapping else type(content).__name__
    notes = [f"Weights must be at the top level or under one of the keys {', '.join(_WEIGHT_KEYS)}."]
    if any(isinstance(mapping.get(key), OpaqueObject) for key in _WEIGHT_KEYS):
        notes = [WHOLE_MODEL]
    raise CheckpointError(f"no weights were found in '{source}'", found=description, notes=notes)


def rename_keys(
    weights: Mapping[str, Any],
    revise_keys: Iterable[tuple[str, str]] = (),
    *,
    prefix: str | None = None,
    source: str = "a state dict",
) -> "OrderedDict[str, Any]":
    """Renames the keys in a state dict; see `load_weights`.

    Raises:
        CheckpointError: No key starts with `prefix`, or two keys are renamed to the same key.
    """
    pairs = [(re.compile(pattern), replacement) for pattern, replacement in revise_keys]
    start = f"{prefix.removesuffix('.')}." if prefix else ""

    def rename(key: str) -> str | None:
        for pattern, replacement in pairs:
            key = pattern.sub(replacement, key)
        return key.removeprefix(start) if key.startswith(start) else None

    renamed: OrderedDict[str, Any] = OrderedDict()
    for old, value in weights.items():
        new = rename(old)
        if new in renamed:
            raise CheckpointError(
                f"two keys in '{source}' have the same name '{new}' after renaming", key="revise_keys"
            )
        if new is not None:
            renamed[new] = value
    if start and not renamed:
        raise CheckpointError(
            f"no key in '{source}' starts with '{start}'",
            found=list(weights)[:_MAX_KEYS],
            notes=["`prefix` is compared with the keys after `revise_keys` has renamed them."],
        )
    metadata = {}
    for layer, version in getattr(weights, "_metadata", {}).items():  # layer names have no trailing dot
        new = rename(f"{layer}." if layer else "")
        if new is not None:
            metadata[new.rstrip(".")] = version
    renamed._metadata = metadata  # type: ignore[attr-defined]
    return renamed


def _as_mapping(value: Any) -> Mapping[Any, Any]:
    """Returns the entries of a mapping or a pickled dict, or an empty dict for any other value."""
    if isinstance(value, OpaqueObject):
        value = value.items or value.state
    return value if isinstance(value, Mapping) else {}
