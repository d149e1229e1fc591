"""Reads and writes `layout.json`, which describes the content of a sharded checkpoint, and removes such checkpoints.

    iter_8.sharded/
      layout.json             the location of each shard, the digest of every other file, and its own digest
      state-<save>.pth        everything that is not sharded, as a checkpoint file with its own digest
      rank_0-<save>.bin ...   the concatenated bytes of the shards

The checkpoint is committed when `layout.json` is renamed into the folder. Files that it does not list are left over
from an unfinished save. The metadata is stored as JSON, because torch.distributed.checkpoint would pickle it.
"""

import hashlib
import itertools
import json
import math
import os
import posixpath
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from footplate import storage
from footplate.checkpoint.digest import Digest, sha256_of_file
from footplate.checkpoint.memory_budget import memory_limit
from footplate.errors import CheckpointDamagedError, CheckpointError

SHARDED_SUFFIX = ".sharded"
LAYOUT = "layout.json"
_SHARD_FILE = r"(rank_\d+-[0-9a-f]+\.bin|state-[0-9a-f]+\.pth)"
_OWN_FILE = re.compile(rf"{_SHARD_FILE}|\.({_SHARD_FILE}|{re.escape(LAYOUT)})\.[0-9a-f]{{8}}\.partial")
_LAYOUT_START = re.compile(rb'\s*\{\s*"sha256":\s*"[0-9a-f]{64}",\s*"layout":\s*\{\s*"format":\s*"footplate-sharded ')
_LAYOUT_START_BYTES = 256
_FORMAT = "footplate-sharded 1"
_LONGEST_LAYOUT = 1 << 30
_MEMORY_PER_BYTE = 30  # upper bound for a hostile layout
_LARGEST_NUMBER = (1 << 63) - 1
_MOST_DIMENSIONS = 64
_LONGEST_NAME = 255  # bytes
_MOST_CUT_DIMENSIONS = 4  # device meshes have two or three
_MOST_CORNERS = 1 << 17  # corners of all shards of one tensor, which are in memory at once
_INTEGER_DTYPES = {torch.bool, *(getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))}


class Chunk(NamedTuple):
    """A tensor shard that is stored in a file."""

    offsets: tuple[int, ...]  # the start of the shard in each dimension of the tensor
    sizes: tuple[int, ...]  # the shape of the shard
    file: str  # the name of the file
    start: int  # the offset in bytes of the shard in the file


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and its shards."""

    dtype: torch.dtype
    size: tuple[int, ...]
    chunks: list[Chunk]

    @property
    def nbytes(self) -> int:
        """The size of the whole tensor in bytes."""
        return math.prod(self.size) * self.dtype.itemsize


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
        return sum(each.size for each in self.files.values())


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
    """Checks whether a name is one that footplate gives to shards, state files and temporary files."""
    return _OWN_FILE.fullmatch(name) is not None


def has_own_layout(folder: str) -> bool:
    """Checks whether footplate wrote the layout in a folder. The layout is not verified.

    Raises:
        OSError: The layout cannot be read.
    """
    try:
        with storage.open_file(storage.join(folder, LAYOUT)) as stream:
            return _LAYOUT_START.match(stream.read(_LAYOUT_START_BYTES)) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


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
    if not storage.exists(folder):
        return []
    try:
        names = storage.list_dir(folder)
    except NotADirectoryError:  # a file that footplate did not write
        return [storage.base_name(folder)]
    if has_own_layout(folder):
        storage.remove(storage.join(folder, LAYOUT))
        names.remove(LAYOUT)
    elif not all(map(is_own_file, names)):
        return names
    left = remove_own_files(folder, names)
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
        path = storage.join(folder, name)
        if not is_own_file(name) or (storage.is_local(path) and os.path.isdir(path)):
            left.append(name)
        else:
            storage.remove(path)
    return left


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
        "files": {name: list(each) for name, each in layout.files.items()},
        "tensors": {
            name: [str(each.dtype).removeprefix("torch."), each.size, each.chunks]
            for name, each in layout.tensors.items()
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
        size = storage.status(path).size
        # Parsing the layout must not need far more memory than the files in its folder justify.
        if _MEMORY_PER_BYTE * size > memory_limit(0):
            total = sum(storage.status(storage.join(folder, name)).size for name in storage.list_dir(folder))
            if size > _LONGEST_LAYOUT or _MEMORY_PER_BYTE * size > memory_limit(total):
                fault = f"its {LAYOUT} is far longer than the size of its shards justifies"
                raise CheckpointError(f"cannot use checkpoint '{folder}': {fault}")
        content = json.loads(storage.read_bytes(path).decode(), object_pairs_hook=_dict_without_duplicates)
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
        reason = error if type(error) is ValueError else f"its {LAYOUT} has an unexpected form: {error!r}"
        raise CheckpointError(f"cannot use checkpoint '{folder}': {reason}") from error


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


def _dict_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("it contains a duplicate key")
    return made


def _parse(body: Mapping[str, Any], sha256: str) -> Layout:
    """Parses a layout, and checks that each tensor is complete and that no byte belongs to two shards."""
    if body["format"] != _FORMAT:
        raise ValueError(f"its format is '{body['format']}', not '{_FORMAT}'")
    files = {
        _checked_file_name(name): FileDigest(_checked_size(size), str(sha))
        for name, (size, sha) in body["files"].items()
    }
    state = body["state"]
    if state not in files:
        raise ValueError("its state file is not among its files")
    tensors = {name: _parse_tensor(name, *each) for name, each in body["tensors"].items()}
    spans: dict[str, list[tuple[int, int]]] = {name: [] for name in files if name != state}
    for name, each in tensors.items():
        for chunk in each.chunks:
            end = chunk.start + math.prod(chunk.sizes) * each.dtype.itemsize
            if chunk.file not in spans or end > files[chunk.file].size:
                raise ValueError(f"a shard of '{name}' is outside its file")
            spans[chunk.file].append((chunk.start, end))
    for file, several in spans.items():
        if not are_apart(several):
            raise ValueError(f"two shards in '{file}' overlap")
    return Layout(state, tensors, files, Digest(sha256, _checked_size(body["saved"])))


def _parse_tensor(name: str, kind: str, size: Any, chunks: Any) -> StoredTensor:
    dtype = getattr(torch, kind, None) if kind.isidentifier() else None
    if not isinstance(dtype, torch.dtype) or not (
        dtype.is_floating_point or dtype.is_complex or dtype in _INTEGER_DTYPES
    ):
        raise ValueError(f"the dtype '{kind}' of '{name}' is unknown")
    shape = tuple(map(_checked_size, size))
    if len(shape) > _MOST_DIMENSIONS or math.prod(max(1, each) for each in shape) * dtype.itemsize > _LARGEST_NUMBER:
        raise ValueError(f"the size of '{name}' exceeds the maximum size of a tensor")
    parsed = [
        Chunk(tuple(map(_checked_size, offsets)), tuple(map(_checked_size, sizes)), file, _checked_size(start))
        for offsets, sizes, file, start in chunks
    ]
    for chunk in parsed:
        if not len(chunk.offsets) == len(chunk.sizes) == len(shape):
            raise ValueError(f"a shard of '{name}' does not have as many dimensions as the tensor")
        if any(at + length > limit for at, length, limit in zip(chunk.offsets, chunk.sizes, shape, strict=True)):
            raise ValueError(f"a shard of '{name}' is outside the tensor")
    if not is_tiled(shape, [(chunk.offsets, chunk.sizes) for chunk in parsed]):
        raise ValueError(f"the shards of '{name}' overlap or leave gaps")
    return StoredTensor(dtype, shape, parsed)


def _checked_file_name(name: str) -> str:
    is_plain = name and posixpath.basename(name) == name and not name.startswith(".") and name != LAYOUT
    try:
        is_short = len(name.encode()) <= _LONGEST_NAME
    except UnicodeEncodeError:
        is_short = False
    if not is_plain or not is_short or any(each in name for each in "\\\0"):
        raise ValueError(f"{name!r} is not a valid file name")
    return name


def _checked_size(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST_NUMBER:
        raise ValueError(f"'{value}' is not a valid size")
    return value


def is_tiled(shape: Sequence[int], boxes: Sequence[tuple[Sequence[int], Sequence[int]]]) -> bool:
    """Checks whether boxes (offsets and sizes) cover a tensor of a shape without gaps or overlaps, in linear time.

    Each corner of a box gets a sign: positive if its number of upper coordinates is even, otherwise negative. The
    signed corners are the mixed difference of the box's indicator function and determine this function. Therefore, the
    boxes cover each element of the tensor exactly once if and only if the signed corners of all boxes add up to those
    of the tensor.

    Raises:
        ValueError: The tensor is split along too many dimensions or into too many shards.

    Example:
        >>> is_tiled((4, 2), [((0, 0), (3, 2)), ((3, 0), (1, 2))])
        True
        >>> is_tiled((4, 2), [((0, 0), (3, 2)), ((0, 0), (1, 2))])
        False
    """
    if not all(shape):
        return not boxes
    if not all(all(sizes) for _, sizes in boxes):
        return False
    split = [d for d, length in enumerate(shape) if any(sizes[d] != length or offsets[d] for offsets, sizes in boxes)]
    if len(split) > _MOST_CUT_DIMENSIONS:
        raise ValueError(
            f"a tensor is split along {len(split)} dimensions, but at most {_MOST_CUT_DIMENSIONS} are supported"
        )
    if len(boxes) << len(split) > _MOST_CORNERS:
        raise ValueError(
            f"a tensor is split into {len(boxes)} shards, but at most {_MOST_CORNERS >> len(split)} are supported"
        )
    corners: Counter[tuple[int, ...]] = Counter()
    whole = [0] * len(shape), shape
    for (offsets, sizes), sign in itertools.chain(((box, 1) for box in boxes), [(whole, -1)]):
        for upper in itertools.product((False, True), repeat=len(split)):
            corner = tuple(offsets[d] + sizes[d] if up else offsets[d] for d, up in zip(split, upper, strict=True))
            corners[corner] += -sign if sum(upper) % 2 else sign
    return not any(corners.values())


def are_apart(spans: Iterable[tuple[int, int]]) -> bool:
    """Checks whether the spans `(begin, end)` are disjoint."""
    ordered = sorted(spans)
    return all(before[1] <= after[0] for before, after in itertools.pairwise(ordered))
