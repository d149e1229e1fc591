"""Indexes of tar shards: the position of every file in a shard, so that samples can be read in any order.

The index of `a.tar` is `a.tar.index.json`. It is written once and contains the size of the shard, and for each file its
name, the offset and the size of its content, and the checksum in its tar header.
"""

import json
import logging
import os
import re
import tarfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import IO, Any, NamedTuple

from footplate.data.shard_cache import ShardCache
from footplate.errors import DataError
from footplate.storage import commit_bytes, exists, is_local, missing_path_notes, read_bytes, status

_logger = logging.getLogger("footplate.data")
SUFFIX = ".index.json"
_VERSION = 1
_BLOCK = 512  # bytes; the content of a file follows its header, which has this size
_CHECKSUM = slice(148, 156)  # of a header: octal digits
_KEY = re.compile(r"((?:.*/|)[^.]+)\.([^/]*)")  # the key of a sample, and the extension
_META = re.compile(r"__[^/]*__($|/)")  # files that are no samples
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


class Member(NamedTuple):
    """A file in a shard.

    Attributes:
        name: Its name.
        offset: The offset of its content in the shard, in bytes.
        size: The size of its content in bytes.
        checksum: The checksum in its header, which covers name, size and time of modification.
    """

    name: str
    offset: int
    size: int
    checksum: int


class ShardSample(NamedTuple):
    """The files of a sample by their lowercase extension, such as `jpg` or `seg.png`."""

    key: str
    members: dict[str, Member]


class ShardIndex(NamedTuple):
    """The size of a shard in bytes, and its samples."""

    size: int
    samples: list[ShardSample]


def load_index(shard: str, cache: ShardCache) -> ShardIndex:
    """Returns the index of a shard. Creates the index if there is none.

    A new index is written next to a local shard, or to the folder of `cache` if the shard is remote or its folder is
    read-only.

    Raises:
        DataError: The shard is missing, damaged or empty, contains a key twice, or does not match its index.
    """
    # In a chain such as zip://a.tar::b.zip, there is no path next to the shard.
    beside, cached = [] if "::" in shard else [shard + SUFFIX], cache.path(shard + SUFFIX)
    try:
        path = next((each for each in (*beside, cached) if exists(each)), None)
        size = status(shard).size if path is None or is_local(shard) else None
    except FileNotFoundError as error:
        raise DataError(f"the shard '{shard}' does not exist", notes=missing_path_notes(shard)) from error
    except OSError as error:
        raise DataError(f"the shard '{shard}' cannot be read: {error}") from error
    if path is None:
        assert size is not None
        with cache.open(shard, size) as stream:
            members = scan_shard(shard, stream, size)
        _write(shard, size, members, [*(beside if is_local(shard) else []), cached])
        return ShardIndex(size, _group(shard, members))
    indexed, members = _read(path)
    if size is not None and size != indexed:
        _refuse(path, shard, f"the shard has {size} bytes, and the index was made for {indexed}")
    if size is not None and members:
        with cache.open(shard, size) as stream:
            for member in (members[0], members[-1]):
                stream.seek(member.offset - _BLOCK)
                check_header(stream.read(_BLOCK), member, shard)
    return ShardIndex(indexed, _group(shard, members))


def check_header(header: bytes, member: Member, shard: str) -> None:
    """Checks that the header of a file in a shard is the one in the index.

    Raises:
        DataError: It is a different header, so the shard has changed since it was indexed.
    """
    try:
        is_same = int(header[_CHECKSUM].strip(b"\0 "), 8) == member.checksum
    except ValueError:
        is_same = False
    if not is_same:
        found = f"no header of '{member.name}' at offset {member.offset - _BLOCK}"
        _refuse(shard + SUFFIX, shard, found)


def _refuse(index: str, shard: str, found: str) -> None:
    raise DataError(
        f"the shard '{shard}' has changed since it was indexed",
        found=found,
        notes=[f"Restore the shard, or remove '{os.path.basename(index)}' to index it again."],
    )


def scan_shard(shard: str, stream: IO[Any], size: int) -> list[Member]:
    """Reads the headers of a shard, and returns its regular files in order.

    Args:
        shard: The path or URL, for error messages.
        stream: The opened shard.
        size: Its size in bytes.

    Raises:
        DataError: The shard is compressed, incomplete or damaged.
    """
    compression = _COMPRESSED.get(stream.read(2))
    stream.seek(0)
    if compression is not None:
        raise DataError(
            f"the shard '{shard}' is compressed with {compression}, so its samples cannot be read in any order",
            notes=["Decompress the shards. Images are compressed already."],
        )
    members: list[Member] = []
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for each in archive:
                if each.isreg() and not each.issparse():
                    members.append(Member(each.name, each.offset_data, each.size, each.chksum))
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
        raise DataError(f"the shard '{shard}' is incomplete: it ends at offset {size} without an end mark")
    if block.count(0) < _BLOCK:
        raise DataError(f"the shard '{shard}' is damaged: there is no valid header at offset {end}")
    return members


def _group(shard: str, members: Iterable[Member]) -> list[ShardSample]:
    """Groups files with the same key, as WebDataset does: the key is the name up to the first dot after the folder."""
    samples: list[ShardSample] = []
    seen: dict[str, int] = {}
    for member in members:
        match = _KEY.fullmatch(member.name)
        if match is None or _META.match(member.name):
            continue
        key, extension = match.group(1), match.group(2).lower()
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


def _write(shard: str, size: int, members: Sequence[Member], paths: Iterable[str]) -> None:
    """Writes an index to the first path that can be written."""
    content = json.dumps({"version": _VERSION, "size": size, "members": members}, separators=(",", ":"))
    for path in paths:
        with suppress(OSError):
            commit_bytes(path, content.encode())
            return
    _logger.warning("The index of '%s' cannot be saved, so each run scans the shard again.", shard)


def _read(path: str) -> tuple[int, list[Member]]:
    """Returns the size of the shard and its files. Raises a DataError if the file is not a valid index."""
    try:
        content = json.loads(read_bytes(path))
        version, size = content["version"], content["size"]
        members = [Member(*each) for each in content["members"]]
        is_valid = version == _VERSION and type(size) is int and all(_is_valid(each, size) for each in members)
    except OSError as error:
        raise DataError(f"the index '{path}' cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise DataError(f"'{path}' is not a valid index", notes=["Remove the file to index the shard again."])
    return size, members


def _is_valid(member: Member, size: int) -> bool:
    name, *numbers = member
    if type(name) is not str or any(type(each) is not int for each in numbers):
        return False
    return member.offset >= _BLOCK and 0 <= member.size <= size - member.offset
