"""Defines the file layout of sharded checkpoints, and removes sharded checkpoints.

    iter_8.sharded/
      state.pth                      all unsharded state, and the layout: which file contains which shard
      rank_0-<save>.pth ...          the shards of each rank, as a dict of tensors

All of these are checkpoint files with a digest. The layout records the digests of the shard files. Renaming `state.pth`
into the folder commits the checkpoint. Files that are not in the layout are left over from an unfinished save.
"""

import contextlib
import math
import re
from collections.abc import Collection
from typing import Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint.digest import Digest
from footplate.checkpoint_names import STATE, is_sharded_path
from footplate.errors import CheckpointError

_FILE = r"(rank_\d+-[0-9a-f]{8}|state)\.pth"
_OWN_FILE = re.compile(rf"{_FILE}|\.{_FILE}\.[0-9a-f]{{8}}\.partial")
FORMAT = "footplate-sharded 3"


class Chunk(NamedTuple):
    """A tensor shard stored in a file."""

    offsets: tuple[int, ...]  # the start of the shard in each dimension of the tensor
    sizes: tuple[int, ...]  # the shape of the shard
    file: str  # the name of the file


class StoredTensor(NamedTuple):
    """A tensor in a sharded checkpoint, and its shards."""

    dtype: torch.dtype
    size: tuple[int, ...]
    chunks: list[Chunk]


class ShardLayout(NamedTuple):
    """The content of `state.pth` in a sharded checkpoint."""

    state: Any  # all state that is not sharded, with references in place of sharded tensors
    tensors: dict[str, StoredTensor]  # the sharded tensors by name
    files: dict[str, str]  # the SHA-256 of each file with shards
    digest: Digest  # the digest of `state.pth`

    def empty_tensors(self, device: "str | torch.device") -> dict[str, torch.Tensor]:
        """Returns uninitialized tensors to load the shards into."""
        return {
            name: torch.empty(tensor.size, dtype=tensor.dtype, device=device) for name, tensor in self.tensors.items()
        }


def main_file(path: str) -> str:
    """Returns the file whose creation commits a checkpoint: `path`, or the state file of a sharded checkpoint."""
    return storage.join(path, STATE) if is_sharded_path(path) else path


def is_own_file(name: str) -> bool:
    """Checks whether a file name is one that footplate uses for states, shards or temporary files."""
    return _OWN_FILE.fullmatch(name) is not None


def remove_sharded(folder: str) -> None:
    """Removes the files of a sharded checkpoint, and then the folder if it is empty.

    If the path is a symbolic link, removes only the link.

    Raises:
        OSError: The folder cannot be read, or a file cannot be removed.
    """
    if storage.is_link(folder):
        storage.remove(folder.rstrip("/"))
        return
    with contextlib.suppress(FileNotFoundError):
        remove_own_files(folder)
    with contextlib.suppress(OSError):  # the folder may contain files that footplate did not write
        storage.remove_empty_folder(folder)


def remove_own_files(folder: str, keep: Collection[str] = ()) -> None:
    """Removes the files that footplate wrote to a folder, starting with the state file.

    Raises:
        OSError: The folder cannot be read, or a file cannot be removed.
    """
    names = [name for name in storage.list_dir(folder) if is_own_file(name) and name not in keep]
    for name in sorted(names, key=lambda name: name != STATE):
        storage.remove(storage.join(folder, name))


def remove_unfinished(folder: str) -> None:
    """Removes unfinished sharded checkpoints from a folder, unless they contain other files.

    No other run can be saving there, because each run locks its work_dir.
    """
    with contextlib.suppress(OSError):  # an unreadable folder must not prevent a save
        for path in [storage.join(folder, name) for name in storage.list_dir(folder) if is_sharded_path(name)]:
            names = [] if storage.is_link(path) else storage.list_dir(path)
            if names and STATE not in names and all(map(is_own_file, names)):
                remove_sharded(path)


def parse_layout(content: Any, digest: Digest) -> ShardLayout:
    """Parses the content of `state.pth`, and checks that no shard is missing or outside the folder.

    Raises:
        CheckpointError: The format is unknown, a shard is missing, or a file name or digest is invalid.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{STATE} does not have the format '{FORMAT}'")
    tensors = {}
    files = content["files"]
    for name, (dtype, size, entries) in content["tensors"].items():
        tensors[name] = StoredTensor(dtype, size, [Chunk(*entry) for entry in entries])
        if sum(math.prod(chunk.sizes) for chunk in tensors[name].chunks) != math.prod(size):
            raise CheckpointError(f"the shards of '{name}' overlap or leave gaps")
    for file in {*files, *(chunk.file for tensor in tensors.values() for chunk in tensor.chunks)}:
        if file not in files or not is_own_file(file):
            raise CheckpointError(f"{STATE} refers to {file!r}, which is not a shard file with a recorded digest")
    return ShardLayout(content["state"], tensors, files, digest)
