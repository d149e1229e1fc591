"""Reads and writes `layout.json`, which describes the content of a sharded checkpoint.

    iter_8.sharded/
      layout.json             the location of each shard, the digest of every other file, and its own digest
      state-<save>.pth        everything that is not sharded, as a sealed checkpoint file
      rank_0-<save>.bin ...   the concatenated bytes of the shards

The checkpoint is committed when `layout.json` is renamed into the folder. Files that it does not list are left over
from an unfinished save. The metadata is stored as JSON, because torch.distributed.checkpoint would pickle it.
"""

import hashlib
import json
import math
import os
import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint._seal import Seal
from footplate.checkpoint.inert.budget import most_memory
from footplate.checkpoint.sharded.tiling import are_apart, is_tiled
from footplate.errors import CheckpointDamagedError, CheckpointError

SUFFIX = ".sharded"
LAYOUT = "layout.json"
_FORMAT = "footplate-sharded 1"
_CHUNK_BYTES = 1 << 20
_LONGEST_LAYOUT = 1 << 30
_MEMORY_PER_BYTE = 30  # upper bound for a hostile layout
_LARGEST_NUMBER = (1 << 63) - 1
_MOST_DIMENSIONS = 64
_LONGEST_NAME = 255  # bytes
_WHOLE = {torch.bool, *(getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))}


class Chunk(NamedTuple):
    """A shard of a tensor in a file.

    Attributes:
        offsets: The start of the shard in each dimension of the tensor.
        sizes: The shape of the shard.
        file: The name of the file.
        start: The offset of its first byte in the file.
    """

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    start: int


@dataclass(frozen=True)
class Tensors:
    """A tensor and its shards."""

    dtype: torch.dtype
    size: tuple[int, ...]
    chunks: list[Chunk]

    @property
    def nbytes(self) -> int:
        """The size of the whole tensor in bytes."""
        return math.prod(self.size) * self.dtype.itemsize


class Digest(NamedTuple):
    """The expected size in bytes and SHA-256 of a file in the folder."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Layout:
    """The content of `layout.json`."""

    state: str
    tensors: dict[str, Tensors]
    files: dict[str, Digest]
    seal: Seal = field(default=Seal(None, 0))

    @property
    def nbytes(self) -> int:
        """The size of all files except `layout.json`, in bytes."""
        return sum(each.size for each in self.files.values())


def is_folder(path: str) -> bool:
    """Checks whether `path` has the suffix of a sharded checkpoint."""
    return path.rstrip("/").endswith(SUFFIX)


def is_committed(path: str) -> bool:
    """Checks whether a checkpoint exists at `path`, either a file or a folder with a layout; nothing is verified."""
    return storage.exists(storage.join(path, LAYOUT) if is_folder(path) else path)


def name_in_parts(name: str) -> str:
    """Returns the name of the sharded checkpoint for a file name.

    Example:
        >>> name_in_parts("iter_4000.pth")
        'iter_4000.sharded'
    """
    return os.path.splitext(name)[0] + SUFFIX


def write_layout(folder: str, layout: Layout) -> Seal:
    """Writes `layout.json` atomically, which commits the checkpoint.

    Raises:
        OSError: It cannot be written; what the folder was before, it still is.
    """
    body = {
        "format": _FORMAT,
        "saved": time.time_ns(),
        "state": layout.state,
        "files": {name: list(each) for name, each in layout.files.items()},
        "tensors": {
            name: [str(each.dtype).removeprefix("torch."), each.size, each.chunks]
            for name, each in layout.tensors.items()
        },
    }
    seal = Seal(_digest(body), body["saved"])  # type: ignore[arg-type]
    text = json.dumps({"sha256": seal.digest, "layout": body}, indent=0)
    storage.commit_bytes(storage.join(folder, LAYOUT), text.encode())
    return seal


def read_layout(folder: str) -> Layout:
    """Reads the layout of a sharded checkpoint and checks that `layout.json` is what was written.

    Raises:
        CheckpointDamagedError: It is not.
        CheckpointError: There is no such folder, or the save into it did not end.
    """
    path = storage.join(folder, LAYOUT)
    try:
        _check_length(folder, storage.status(path).size)
        held = json.loads(storage.read_bytes(path).decode(), object_pairs_hook=_without_duplicates)
        body, digest = held["layout"], held["sha256"]
        found = _digest(body)
    except FileNotFoundError as error:
        if not storage.exists(folder):
            raise CheckpointError(
                f"there is no checkpoint '{folder}'", notes=storage.missing_path_notes(folder)
            ) from error
        raise CheckpointError(f"the save to '{folder}' did not end: it has no {LAYOUT}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read checkpoint '{folder}': {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointDamagedError(f"checkpoint '{folder}' is damaged: its {LAYOUT} makes no sense") from error
    if found != digest:
        raise CheckpointDamagedError(f"checkpoint '{folder}' is damaged: its {LAYOUT} is not what was written")
    try:
        return _parsed(body, digest)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = error if type(error) is ValueError else f"its {LAYOUT} has another form: {error!r}"
        raise CheckpointError(f"cannot use checkpoint '{folder}': {reason}") from error


def _check_length(folder: str, size: int) -> None:
    """Checks whether parsing the layout would need far more memory than the files in its folder justify.

    Raises:
        CheckpointError: It would.
        OSError: The folder cannot be read.
    """
    needed = _MEMORY_PER_BYTE * size
    if needed > most_memory(0):
        held = sum(storage.status(storage.join(folder, name)).size for name in storage.list_dir(folder))
        if size > _LONGEST_LAYOUT or needed > most_memory(held):
            raise CheckpointError(f"cannot use checkpoint '{folder}': its {LAYOUT} is far too long for what it holds")


def check_files(folder: str, layout: Layout, *, share: tuple[int, int] = (0, 1)) -> None:
    """Reads the files of a folder and verifies their digests.

    Args:
        folder: The folder.
        layout: The layout of the folder.
        share: (r, n) verifies every n-th file, starting with file r.

    Raises:
        CheckpointDamagedError: One is missing, or not what was written.
        CheckpointError: One cannot be read.
    """
    for name in sorted(layout.files)[share[0] :: share[1]]:
        expected, path = layout.files[name], storage.join(folder, name)
        try:
            found = Digest(storage.status(path).size, digest_of(path))
        except FileNotFoundError as error:
            raise CheckpointDamagedError(f"checkpoint '{folder}' is damaged: it lacks {name}") from error
        except OSError as error:
            raise CheckpointError(f"cannot read '{path}': {error.strerror or error}") from error
        if found != expected:
            raise CheckpointDamagedError(
                f"checkpoint '{folder}' is damaged: {name} is not what was written",
                notes=[f"expected sha256 {expected.sha256}", f"   found sha256 {found.sha256}"],
            )


def digest_of(path: str) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with storage.open_file(path) as stream:
        while piece := stream.read(_CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) != len(pairs):
        raise ValueError("a key stands in it twice")
    return held


def _parsed(body: Mapping[str, Any], digest: str) -> Layout:
    if body["format"] != _FORMAT:
        raise ValueError(f"its format is '{body['format']}', not '{_FORMAT}'")
    files = {_file_name(name): Digest(_number(size), str(sha)) for name, (size, sha) in body["files"].items()}
    state = body["state"]
    if state not in files:
        raise ValueError("it names no file for its state")
    tensors = {name: _tensors(name, *each) for name, each in body["tensors"].items()}
    _check_places(tensors, {name: each.size for name, each in files.items() if name != state})
    return Layout(state, tensors, files, Seal(digest, _number(body["saved"])))


def _tensors(name: str, kind: str, size: Any, chunks: Any) -> Tensors:
    dtype = getattr(torch, kind, None) if kind.isidentifier() else None
    if not isinstance(dtype, torch.dtype) or not (dtype.is_floating_point or dtype.is_complex or dtype in _WHOLE):
        raise ValueError(f"the dtype '{kind}' of '{name}' is unknown")
    shape = tuple(map(_number, size))
    if len(shape) > _MOST_DIMENSIONS or math.prod(max(1, each) for each in shape) * dtype.itemsize > _LARGEST_NUMBER:
        raise ValueError(f"'{name}' is larger than any tensor")
    parts = [Chunk(tuple(map(_number, o)), tuple(map(_number, s)), f, _number(at)) for o, s, f, at in chunks]
    for part in parts:
        if not len(part.offsets) == len(part.sizes) == len(shape):
            raise ValueError(f"a part of '{name}' has other dimensions than the tensor")
        if any(at + length > limit for at, length, limit in zip(part.offsets, part.sizes, shape, strict=True)):
            raise ValueError(f"a part of '{name}' lies outside of it")
    if not is_tiled(shape, [(part.offsets, part.sizes) for part in parts]):
        raise ValueError(f"the parts of '{name}' overlap or leave gaps")
    return Tensors(dtype, shape, parts)


def _check_places(tensors: Mapping[str, Tensors], sizes: Mapping[str, int]) -> None:
    """Raises ValueError if a shard is outside of its file or if two shards overlap in a file."""
    spans: dict[str, list[tuple[int, int]]] = {name: [] for name in sizes}
    for name, each in tensors.items():
        for part in each.chunks:
            end = part.start + math.prod(part.sizes) * each.dtype.itemsize
            if part.file not in sizes or end > sizes[part.file]:
                raise ValueError(f"a part of '{name}' lies outside of its file")
            spans[part.file].append((part.start, end))
    for file, held in spans.items():
        if not are_apart(held):
            raise ValueError(f"two parts in '{file}' share bytes")


def _file_name(name: str) -> str:
    plain = name and posixpath.basename(name) == name and not name.startswith(".") and name != LAYOUT
    if not plain or any(each in name for each in "\\\0") or not _fits(name):
        raise ValueError(f"{name!r} is no name of a file in it")
    return name


def _fits(name: str) -> bool:
    """Returns whether the name is short enough for file systems."""
    try:
        return len(name.encode()) <= _LONGEST_NAME
    except UnicodeEncodeError:
        return False


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST_NUMBER:
        raise ValueError(f"'{value}' is no size")
    return value
