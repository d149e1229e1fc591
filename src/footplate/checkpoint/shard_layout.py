"""Reads and writes `layout.json`, which describes the content of a sharded checkpoint, and removes such checkpoints.

    iter_8.sharded/
      layout.json                    the location of each shard, the digest of every other file, and its own digest
      state-<save>.pth               everything that is not sharded, as a checkpoint file with its own digest
      rank_0-<save>-0.distcp ...     the shards, as torch.distributed.checkpoint writes them

The checkpoint is committed when `layout.json` is renamed into the folder. Files that it does not list are left over
from an unfinished save. The metadata is stored as JSON, because torch.distributed.checkpoint would pickle it.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint.digest import Digest, sha256_of_file
from footplate.errors import CheckpointDamagedError, CheckpointError
from footplate.messages import list_names

SHARDED_SUFFIX = ".sharded"
LAYOUT = "layout.json"
_SHARD_FILE = r"(rank_\d+-[0-9a-f]+-\d+\.distcp|state-[0-9a-f]+\.pth|layout\.json)"
_OWN_FILE = re.compile(rf"{_SHARD_FILE}|\.{_SHARD_FILE}\.[0-9a-f]{{8}}\.partial")
_FORMAT = "footplate-sharded 2"
_MAX_NAMES = 3


class Chunk(NamedTuple):
    """A tensor shard that is stored in a file."""

    offsets: tuple[int, ...]  # the start of the shard in each dimension of the tensor
    sizes: tuple[int, ...]  # the shape of the shard
    file: str  # the name of the file
    start: int  # the offset in bytes of the shard in the file
    length: int  # the size in bytes of the shard in the file


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and its shards."""

    dtype: torch.dtype
    size: tuple[int, ...]
    chunks: list[Chunk]


class FileDigest(NamedTuple):
    """The expected size in bytes and SHA-256 of a file in the folder."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Layout:
    """The content of `layout.json`."""

    state: str
    tensors: dict[str, StoredTensor]
    files: dict[str, FileDigest]
    digest: Digest = field(default=Digest(None, 0))

    @property
    def nbytes(self) -> int:
        """The size of all files except `layout.json`, in bytes."""
        return sum(file.size for file in self.files.values())

    def empty_tensors(self, device: "str | torch.device") -> dict[str, torch.Tensor]:
        """Returns uninitialized tensors for the content of all shards."""
        return {
            name: torch.empty(tensor.size, dtype=tensor.dtype, device=device) for name, tensor in self.tensors.items()
        }


def is_sharded_path(path: str) -> bool:
    """Checks whether `path` has the suffix of a sharded checkpoint."""
    return path.rstrip("/").endswith(SHARDED_SUFFIX)


def is_committed(path: str) -> bool:
    """Checks whether a checkpoint exists at `path`: a file, or a folder with a layout. Nothing is verified."""
    return storage.exists(storage.join(path, LAYOUT) if is_sharded_path(path) else path)


def sharded_name(name: str) -> str:
    """Returns the name of the sharded checkpoint for a file name.

    Example:
        >>> sharded_name("iter_4000.pth")
        'iter_4000.sharded'
    """
    return os.path.splitext(name)[0] + SHARDED_SUFFIX


def is_own_file(name: str) -> bool:
    """Checks whether a name is one that footplate gives to layouts, shards, state files and temporary files."""
    return _OWN_FILE.fullmatch(name) is not None


def remove_sharded(folder: str) -> list[str]:
    """Removes a sharded checkpoint: the layout first, then the other files of footplate and the empty folder.

    If the path is a symbolic link, only the link is removed.

    Returns:
        The names of the files that were kept because footplate did not write them.

    Raises:
        OSError: A file or the folder cannot be removed.
    """
    if storage.is_link(folder):
        storage.remove(folder.rstrip("/"))
        return []
    try:
        names = storage.list_dir(folder)
    except FileNotFoundError:
        return []
    except NotADirectoryError:  # a file that footplate did not write
        return [storage.base_name(folder)]
    left = remove_own_files(folder, sorted(names, key=lambda name: name != LAYOUT))
    if not left:
        storage.remove_empty_folder(folder)
    return left


def remove_own_files(folder: str, names: Iterable[str]) -> list[str]:
    """Removes the given files, except those that footplate did not write. Returns the names of the kept files.

    Raises:
        OSError: A file cannot be removed.
    """
    left = []
    for name in names:
        if is_own_file(name):
            storage.remove(storage.join(folder, name))
        else:
            left.append(name)
    return left


def check_writable(folder: str) -> None:
    """Checks that a sharded checkpoint may be written to a folder.

    Raises:
        CheckpointError: The folder contains no checkpoint, but files that footplate did not write.
        OSError: The folder cannot be read, or it is a file.
    """
    if storage.exists(folder) and not is_committed(folder):
        foreign = [name for name in storage.list_dir(folder) if not is_own_file(name)]
        if foreign:
            raise CheckpointError(
                f"it contains files that footplate did not write: {list_names(foreign, _MAX_NAMES)}",
                notes=["Choose another folder, or move the files."],
            )


def remove_unfinished(folder: str, *, but: str) -> list[str]:
    """Removes unfinished sharded checkpoints in `folder`, except the one named `but`.

    Removes only folders without other files. No other run can be saving there, because a run locks its work_dir.

    Returns:
        The paths of the removed folders.
    """
    removed = []
    for name in storage.list_dir(folder) if storage.exists(folder) else ():
        path = storage.join(folder, name)
        if is_sharded_path(name) and name != but and not storage.is_link(path):
            with contextlib.suppress(OSError):  # a folder that cannot be read or removed must not stop a save
                names = storage.list_dir(path)
                if names and LAYOUT not in names and all(map(is_own_file, names)):
                    remove_sharded(path)
                    removed.append(path)
    return removed


def write_layout(folder: str, layout: Layout) -> Digest:
    """Commits the checkpoint by writing `layout.json` atomically.

    Raises:
        OSError: The file cannot be written. The folder is unchanged.
    """
    saved = time.time_ns()
    body = {
        "format": _FORMAT,
        "saved": saved,
        "state": layout.state,
        "files": layout.files,
        "tensors": {
            name: [str(tensor.dtype).removeprefix("torch."), tensor.size, tensor.chunks]
            for name, tensor in layout.tensors.items()
        },
    }
    digest = Digest(_sha256_of_json(body), saved)
    text = json.dumps({"sha256": digest.sha256, "layout": body}, indent=0)
    storage.commit_bytes(storage.join(folder, LAYOUT), text.encode())
    return digest


def read_layout(folder: str) -> Layout:
    """Reads the layout of a sharded checkpoint and verifies that `layout.json` has not changed since it was written.

    Raises:
        CheckpointDamagedError: The file has changed since it was written.
        CheckpointError: The folder does not exist or has no layout, because a save did not finish.
    """
    path = storage.join(folder, LAYOUT)
    try:
        content = json.loads(storage.read_bytes(path).decode())
        body, recorded = content["layout"], content["sha256"]
        found = _sha256_of_json(body)
    except FileNotFoundError as error:
        if not storage.exists(folder):
            notes = storage.missing_path_notes(folder)
            raise CheckpointError(f"checkpoint '{folder}' does not exist", notes=notes) from error
        raise CheckpointError(f"the save to '{folder}' did not finish: it has no {LAYOUT}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint '{folder}': {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointDamagedError(f"checkpoint '{folder}' is damaged: its {LAYOUT} is invalid") from error
    if found != recorded:
        raise CheckpointDamagedError(f"checkpoint '{folder}' is damaged: its {LAYOUT} has changed since it was written")
    try:
        return _parse(body, recorded)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"cannot use checkpoint '{folder}': its {LAYOUT} is invalid: {error!r}") from error


def verify_files(folder: str, layout: Layout, *, share: tuple[int, int] = (0, 1)) -> None:
    """Reads the files of a folder and verifies their digests.

    Args:
        folder: The folder.
        layout: The layout of the folder.
        share: A pair `(r, n)`. Every n-th file is verified, starting with the file at index r.

    Raises:
        CheckpointDamagedError: A file is missing, or does not match its checksum.
        CheckpointError: A file cannot be read.
    """
    for name in sorted(layout.files)[share[0] :: share[1]]:
        expected, path = layout.files[name], storage.join(folder, name)
        try:
            found = FileDigest(storage.status(path).size, sha256_of_file(path))
        except FileNotFoundError as error:
            raise CheckpointDamagedError(f"checkpoint '{folder}' is damaged: {name} is missing") from error
        except OSError as error:
            raise CheckpointError(f"cannot read '{path}': {error.strerror or error}") from error
        if found != expected:
            raise CheckpointDamagedError(
                f"checkpoint '{folder}' is damaged: {name} does not match its checksum",
                notes=[f"expected sha256 {expected.sha256}", f"   found sha256 {found.sha256}"],
            )


def _sha256_of_json(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _parse(body: Mapping[str, Any], sha256: str) -> Layout:
    """Parses a layout, and checks that only files of the folder are read and that no shard of a tensor is missing."""
    if body["format"] != _FORMAT:
        raise ValueError(f"the format is '{body['format']}', not '{_FORMAT}'")
    files = {name: FileDigest(*entry) for name, entry in body["files"].items()}
    tensors = {}
    for name, (dtype, size, entries) in body["tensors"].items():
        chunks = [Chunk(tuple(offsets), tuple(sizes), *place) for offsets, sizes, *place in entries]
        if sum(math.prod(chunk.sizes) for chunk in chunks) != math.prod(size):
            raise ValueError(f"the shards of '{name}' overlap or leave gaps")
        tensors[name] = StoredTensor(vars(torch)[dtype], tuple(size), chunks)
    used = {body["state"], *(chunk.file for tensor in tensors.values() for chunk in tensor.chunks)}
    if invalid := [name for name in {*files, *used} if name not in files or not is_own_file(name)]:
        raise ValueError(f"{invalid[0]!r} is not a valid file name")
    return Layout(body["state"], tensors, files, Digest(sha256, body["saved"]))
