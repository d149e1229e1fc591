"""Opens checkpoints, verifies them, and reads their content without the values of tensors."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint.digest import Digest, read_digest, verify_digest
from footplate.checkpoint.serializable import join_state
from footplate.checkpoint.shard_layout import Layout, is_sharded_path, read_layout, verify_files
from footplate.checkpoint.torch_file import read_content, verify_checksums
from footplate.errors import CheckpointDamagedError, CheckpointError, FootplateError

SUFFIXES = (".pth", ".pt", ".ckpt")
SAFETENSORS_SUFFIX = ".safetensors"
BEST = "best_"  # the names of best checkpoints start with this
_CONFIG_SUFFIXES = (".py", ".yaml", ".yml", ".json", ".toml")
_LONGEST_REASON = 200


def verify(path: "str | os.PathLike[str]") -> Digest:
    """Verifies the whole content of a checkpoint and returns its digest.

    A file from another program has no digest. In this case, the checksums that `torch.save` stores for each tensor are
    verified. Files saved by PyTorch before 1.6 have no checksums, so they are read completely instead. All files of a
    sharded checkpoint are verified.

    Raises:
        CheckpointDamagedError: The content does not match its checksum.
        CheckpointError: The file does not exist or is not a checkpoint.
    """
    name = os.fspath(path)
    if is_sharded_path(name):
        with naming_checkpoint(name):
            layout = read_layout(name)
            verify_files(name, layout)
        return layout.digest
    with open_checkpoint(name) as stream:
        digest = verify_digest(stream)
        if digest.sha256 is None:
            verify_checksums(stream)
        return digest


def recorded_digest(path: str) -> Digest:
    """Returns the digest of a checkpoint without verifying the content.

    Raises:
        CheckpointError: The file does not exist or cannot be read.
    """
    if is_sharded_path(path):
        with naming_checkpoint(path):
            return read_layout(path).digest
    with open_checkpoint(path) as stream:
        return read_digest(stream)


class Outline(NamedTuple):
    """The content of a checkpoint with its tensors on the meta device."""

    content: dict[Any, Any]  # the content; an object that is not a dict is under the key ""
    digest: Digest  # the recorded digest
    layout: Layout | None  # the layout of a sharded checkpoint, or None for a single file


def read_outline(path: "str | os.PathLike[str]") -> Outline:
    """Returns the content of a checkpoint with its tensors on the meta device. Nothing is verified.

    Raises:
        CheckpointError: The file does not exist or is not a checkpoint.
    """
    file = name = os.fspath(path)
    layout = None
    with naming_checkpoint(name):
        if is_sharded_path(name):
            layout = read_layout(name)
            file = storage.join(name, layout.state)
        with open_checkpoint(file) as stream:
            value, _, digest = read_content(stream, device="meta")
        if layout is not None:
            digest = layout.digest
            value = join_state(
                value,
                {key: torch.empty(each.size, dtype=each.dtype, device="meta") for key, each in layout.tensors.items()},
            )
        return Outline(dict(value) if isinstance(value, Mapping) else {"": value}, digest, layout)


@contextmanager
def open_checkpoint(path: str) -> Iterator[IO[bytes]]:
    """Opens a checkpoint file and adds its path to errors that are raised in the block.

    Raises:
        CheckpointError: The file does not exist or cannot be read, or the block raised an error.
    """
    if path.endswith(SAFETENSORS_SUFFIX):
        raise CheckpointError(
            f"'{path}' is a safetensors file, which contains only weights and no digest",
            notes=["Pass a checkpoint: a .pth file or a .sharded folder."],
        )
    with naming_checkpoint(path):
        try:
            with storage.open_file(path) as stream:
                yield stream if stream.seekable() else io.BytesIO(stream.read())
        except CheckpointDamagedError as error:
            if path.endswith(_CONFIG_SUFFIXES):
                raise CheckpointError(f"'{path}' is a config file, not a checkpoint") from error
            message = f"checkpoint '{path}' is damaged: {error.message}"
            raise CheckpointDamagedError(message, notes=error.notes) from error
        except CheckpointError as error:
            raise CheckpointError(f"cannot use checkpoint '{path}': {error.message}", notes=error.notes) from error


@contextmanager
def naming_checkpoint(path: str) -> Iterator[None]:
    """Converts any exception in the block to a CheckpointError that contains `path`.

    An exception caused by a damaged or hostile file must not stop a search for other checkpoints.

    Raises:
        CheckpointError: The block raised an exception that is not a `FootplateError`.
    """
    try:
        yield
    except FootplateError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"checkpoint '{path}' does not exist", notes=storage.missing_path_notes(path)) from error
    except IsADirectoryError as error:
        # Suggests the newest best checkpoint in the folder, or the newest checkpoint if there is no best one.
        files = [storage.join(path, name) for name in storage.list_dir(path) if name.endswith(SUFFIXES)]
        best = [each for each in files if storage.base_name(each).startswith(BEST)]
        likely = max(best or files, key=lambda each: storage.status(each).modified, default=None)
        raise CheckpointError(f"'{path}' is a folder, not a checkpoint", suggestion=likely) from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint '{path}': {error.strerror or error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise CheckpointError(f"cannot use checkpoint '{path}': {type(error).__name__}: {reason}") from error
