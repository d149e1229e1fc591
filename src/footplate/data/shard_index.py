"""Indexes of tar shards: the position of every file in a shard, so that samples can be read in any order.

The index of `a.tar` is `a.tar.index.json`. It is written once. It contains the size and the modification time of the
shard, and the number of its files. For each file, it contains the name, the offset and the size of the content, and the
checksum in the tar header.
"""

import json
import logging
import re
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import IO, Any, NamedTuple

from footplate.data.annotations import explain_read_errors, with_retries
from footplate.data.sharded_dataset import ShardCache
from footplate.errors import DataError
from footplate.storage import (
    FileStatus,
    absolute,
    commit_bytes,
    is_local,
    local_path,
    open_file,
    read_bytes,
    split_query,
    status,
)

_logger = logging.getLogger("footplate.data")
SUFFIX = ".index.json"
_VERSION = 1
_BLOCK = 512  # bytes; the content of a file follows its header, which has this size
_CHECKSUM = slice(148, 156)  # of a header: octal digits
_MOST_PADDING = (
    1024 + 10_240
)  # bytes after the last file: the end-of-archive marker, and zeros up to a multiple of 10,240
_KEY = re.compile(r"((?:.*/|)[^./]+)\.([^/]*)")  # the key of a sample, and the extension
_META = re.compile(r"__[^/]*__($|/)")  # files that are no samples
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


class Member(NamedTuple):
    """A file in a shard.

    Attributes:
        name: Its name.
        offset: The offset of its content in the shard, in bytes.
        size: The size of its content in bytes.
        checksum: The checksum in its header, which covers name, size and modification time.
    """

    name: str
    offset: int
    size: int
    checksum: int


class ShardSample(NamedTuple):
    """The key of a sample, and its files by lowercase extension, such as `jpg` or `seg.png`."""

    key: str
    members: dict[str, Member]


class ShardIndex(NamedTuple):
    """The samples of a shard, and the version of the shard in which they were found.

    Attributes:
        path: The path of the index file; empty if it could not be saved.
        status: The size and the modification time of the shard.
        samples: The samples in the order of the shard.
    """

    path: str
    status: FileStatus
    samples: list[ShardSample]


class _IndexFile(NamedTuple):
    path: str
    status: FileStatus
    members: list[Member]


def load_index(shard: str, cache: ShardCache) -> ShardIndex:
    """Returns the index of a shard. Creates the index if it is missing or out of date.

    A new index is written next to a local shard, or to the folder of `cache` if the shard is remote or its folder is
    read-only. An index is out of date if the size or the modification time of the shard differs. The shard is then
    indexed again. It must contain the same files, because the positions of resumed runs refer to them.

    Raises:
        DataError: The shard is missing, damaged or empty, contains a key twice, or does not match its index.
    """
    address, query = split_query(absolute(shard))
    beside = address + SUFFIX + query
    cached = cache.path(beside)
    with explain_read_errors("shard", shard):
        current = with_retries(status, shard)
        files = [file for file in map(_read, (beside, cached)) if file is not None]
        for file in files:
            # An index that was uploaded next to a remote shard contains the time of the original.
            is_uploaded = file.path != cached and not is_local(shard)
            if file.status == current or (is_uploaded and file.status.size == current.size):
                _check_ends(shard, file)
                return ShardIndex(file.path, current, _group(shard, file.members))
        with cache.open(shard, current) as stream:
            members = scan_shard(shard, stream, current.size)
    for file in files:
        if file.members != members:
            sizes = f"the shard has {current.size} bytes, and the index was made for {file.status.size}"
            is_resized = file.status.size != current.size
            _refuse(file.path, shard, sizes if is_resized else "its files differ from those in the index")
    path = _write(shard, current, members, [beside, cached] if is_local(shard) else [cached])
    return ShardIndex(path, current, _group(shard, members))


def _check_ends(shard: str, file: _IndexFile) -> None:
    """Checks the first and the last header of a local shard.

    The content of a shard may change while its size and modification time stay the same.
    """
    if is_local(shard) and file.members:
        with open_file(local_path(shard)) as stream:
            for member in (file.members[0], file.members[-1]):
                stream.seek(member.offset - _BLOCK)
                check_header(stream.read(_BLOCK), member, shard, file.path)


def check_header(header: bytes, member: Member, shard: str, index: str) -> None:
    """Checks that the 512 bytes before the content of a file in a shard match the index.

    `shard` and `index`, which may be empty, are the paths for error messages.

    Raises:
        DataError: The header differs, so the shard has changed since it was indexed.
    """
    try:
        is_same = int(header[_CHECKSUM].strip(b"\0 "), 8) == member.checksum
    except ValueError:
        is_same = False
    if not is_same:
        _refuse(index, shard, f"no header of '{member.name}' at offset {member.offset - _BLOCK}")


def _refuse(index: str, shard: str, found: str) -> None:
    action = f"remove '{index}' to index it again" if index else "start the run again"
    raise DataError(
        f"the shard '{shard}' has changed since it was indexed",
        found=found,
        notes=[f"Restore the shard, or {action}."],
    )


def scan_shard(shard: str, stream: IO[Any], size: int) -> list[Member]:
    """Reads the headers of an opened shard of `size` bytes, and returns its regular files in order.

    Raises:
        DataError: The shard is compressed, incomplete or damaged.
    """
    block = stream.read(_BLOCK)
    stream.seek(0)
    compression = next((each for magic, each in _COMPRESSED.items() if block.startswith(magic)), None)
    if compression is not None and not _is_header(block):  # the name of the first file may begin with BZ
        raise DataError(
            f"the shard '{shard}' is compressed with {compression}, so its samples cannot be read in random order",
            notes=["Decompress the shards. Images are already compressed."],
        )
    members: list[Member] = []
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for each in archive:
                member = Member(each.name, each.offset_data, each.size, each.chksum)
                if each.issparse() or not (each.isreg() or each.isdir()):
                    _check_is_ignored(member, "a sparse file" if each.issparse() else "a link or a device", shard)
                    continue
                if each.isreg():
                    members.append(member)
                if each.offset_data + each.size > size and each.isreg():
                    reason = (
                        f"'{each.name}' at offset {each.offset} has {each.size} bytes, but the shard ends at {size}"
                    )
                    raise DataError(f"the shard '{shard}' is incomplete: {reason}")
            end = archive.offset
    except tarfile.TarError as error:
        at = members[-1].offset + members[-1].size if members else 0
        raise DataError(f"the shard '{shard}' cannot be read after offset {at}: {error}") from error
    # Python's reader ends without an error at a damaged header, and where an incomplete copy ends.
    stream.seek(end)
    block = stream.read(_BLOCK)
    if len(block) < _BLOCK:
        raise DataError(f"the shard '{shard}' is incomplete: it ends at offset {size} without an end-of-archive marker")
    if block.count(0) < _BLOCK:
        raise DataError(f"the shard '{shard}' is damaged: there is no valid header at offset {end}")
    if size - end > _MOST_PADDING or stream.read().strip(b"\0"):
        raise DataError(
            f"the shard '{shard}' is incomplete or damaged",
            found=f"its end-of-archive marker is at offset {end}, but it has {size} bytes",
            notes=["Copy the shard again. To join tar files, use 'tar --concatenate'."],
        )
    return members


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _check_is_ignored(member: Member, kind: str, shard: str) -> None:
    """Raises a DataError if an entry that is not a regular file belongs to a sample."""
    if _split_name(member.name) is not None:
        raise DataError(
            f"'{member.name}' at offset {member.offset - _BLOCK} of the shard '{shard}' is {kind}",
            notes=["Create the shard with 'tar --dereference --hard-dereference', and without '--sparse'."],
        )


def _split_name(name: str) -> tuple[str, str] | None:
    """Returns the key and the lowercase extension of a file; None for hidden files and metadata."""
    match = _KEY.fullmatch(name)
    return None if match is None or _META.match(name) else (match.group(1), match.group(2).lower())


def _group(shard: str, members: Iterable[Member]) -> list[ShardSample]:
    """Groups files with the same key, as WebDataset does: the key is the name up to the first dot after the folder."""
    samples: list[ShardSample] = []
    seen: dict[str, int] = {}
    for member in members:
        parts = _split_name(member.name)
        if parts is None:
            continue
        key, extension = parts
        if not samples or samples[-1].key != key:
            samples.append(ShardSample(key, {}))
            if key in seen:
                raise _duplicate(f"the key '{key}'", shard, seen[key], member)
            seen[key] = member.offset - _BLOCK
        if extension in samples[-1].members:
            first = samples[-1].members[extension].offset - _BLOCK
            raise _duplicate(f"the file '{member.name}'", shard, first, member)
        samples[-1].members[extension] = member
    if not samples:
        raise DataError(f"the shard '{shard}' contains no samples", found=[each.name for each in members][:3])
    return samples


def _duplicate(what: str, shard: str, first: int, member: Member) -> DataError:
    return DataError(
        f"{what} occurs twice in the shard '{shard}'",
        found=f"at offset {first} and at offset {member.offset - _BLOCK}",
        notes=["The files of a sample must be next to each other, and every key must be unique in its shard."],
    )


def _write(shard: str, current: FileStatus, members: Sequence[Member], paths: Iterable[str]) -> str:
    """Writes an index to the first writable path. Returns this path, or "" if there is none."""
    values = {"version": _VERSION, **current._asdict(), "num_members": len(members), "members": members}
    content = json.dumps(values, separators=(",", ":"))
    for path in paths:
        with suppress(OSError):
            commit_bytes(path, content.encode())
            return path
    _logger.warning("The index of '%s' cannot be saved, so each run scans the shard again.", shard)
    return ""


def _read(path: str) -> _IndexFile | None:
    """Returns the content of an index. Returns None if it does not exist, or if it is remote and not valid.

    Raises:
        DataError: A local index cannot be read or is not valid.
        StorageError: The storage of a remote index cannot be reached.
    """
    # Object stores without the permission to list files refuse access to a file that does not exist.
    missing = (FileNotFoundError,) if is_local(path) else (FileNotFoundError, PermissionError)
    text = None
    with explain_read_errors("index", path), suppress(*missing):
        text = with_retries(read_bytes, path)
    if text is None:
        return None
    try:
        content = json.loads(text)
        version, size, modified = content["version"], content["size"], content["modified"]
        members = [Member(*each) for each in content["members"]]
        is_valid = version == _VERSION and type(size) is int and type(modified) in (int, float)
        is_valid = is_valid and all(_is_valid(each, size) for each in members)
        # Indexes of earlier versions do not contain the number.
        is_valid = is_valid and content.get("num_members", len(members)) == len(members)
    except (ValueError, KeyError, TypeError, RecursionError):
        is_valid = False
    if not is_valid and not is_local(path):  # some servers send a page instead of reporting that a file is missing
        _logger.warning("Ignoring '%s', because it is not a valid index.", path)
        return None
    if not is_valid:
        raise DataError(
            f"'{path}' is not a valid index",
            notes=["Remove the file to index the shard again. To select samples, set `indices`."],
        )
    return _IndexFile(path, FileStatus(size, modified), members)


def _is_valid(member: Member, size: int) -> bool:
    name, *numbers = member
    if type(name) is not str or any(type(each) is not int for each in numbers):
        return False
    return member.offset >= _BLOCK and 0 <= member.size <= size - member.offset
