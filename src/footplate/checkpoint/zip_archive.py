"""Reads the zip archives that `torch.save` writes, without trusting them.

Such an archive stores its members uncompressed in one folder, one after the other, and ends with a directory that lists
them. Any other archive is rejected before its members are read. The members may not be compressed, because their
decompressed size would be unbounded, and may not overlap. The directory must end at the end of the archive. Content
that two readers may interpret differently is also rejected: several folders, names that differ only in case, and
redundant fields that disagree.

Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import struct
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from footplate.errors import CheckpointDamagedError, CheckpointError

_END = struct.Struct("<4s4H2LH")
_END_64_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ESCAPED = 0xFFFFFFFF
_ESCAPED_COUNT = 0xFFFF
_ZIP64_FIELD = 1
_MOST_MEMBERS = 100_000
_LONGEST_DIRECTORY = 64 << 20
_ENCRYPTED = 1
_SIZES_FOLLOW = 8


class Member(NamedTuple):
    """One member of an archive."""

    name: str  # the full name
    start: int  # the offset of the local header in the file
    size: int  # the size of the content in bytes
    checksum: int  # the CRC-32 of the content


class Archive:
    """The members of one archive. Methods take names relative to the folder that contains all members.

    Args:
        stream: An open file.
        comment: The required length, in bytes, of the comment at the end of the file, or 0 if there must be no comment.

    Raises:
        CheckpointDamagedError: The archive is truncated or corrupted. Methods raise it if a member does not exist or
            does not match its checksum.
        CheckpointError: The archive was not written by torch.save.
    """

    def __init__(self, stream: IO[bytes], *, comment: int = 0) -> None:
        self._stream = stream
        start, size, count = _find_directory(stream, comment)
        stream.seek(start)
        members = list(_read_directory(stream.read(size)))
        if len(members) != count:
            raise CheckpointDamagedError("the number of members in its directory differs from the stated number")
        names = {member.name.casefold(): member for member in members}  # torch ignores case
        if len(names) != len(members):
            twice = next(member.name for member in members if names[member.name.casefold()] is not member)
            raise CheckpointDamagedError(f"it is ambiguous, because it contains the member '{twice}' twice")
        self.members = {member.name: member for member in members}
        self._ends = _checked_ends(members, start)
        self.root = root = next(iter(self.members), "").partition("/")[0]
        if f"{root}/data.pkl" not in self.members:
            raise CheckpointError("it is an archive that was not written by torch.save")
        if other := next((name for name in self.members if not name.startswith(f"{root}/")), None):
            raise CheckpointDamagedError(f"it is ambiguous, because '{other}' is outside its folder '{root}'")
        if f"{root}/constants.pkl" in self.members:
            raise CheckpointError("it contains a TorchScript program; export its state dict to use its weights")

    def size_of(self, name: str) -> int:
        """Returns the size of a member in bytes."""
        return self._member(name).size

    def read(self, name: str, *, verify: bool) -> bytes:
        """Returns the content of a member. If `verify` is set, verifies its checksum."""
        content = bytearray(self.size_of(name))
        self.read_into(name, memoryview(content), verify=verify)
        return bytes(content)

    def read_into(self, name: str, target: memoryview, *, verify: bool) -> None:
        """Reads the content of a member into `target`, which must have the size of the member; see `read`."""
        member = self._member(name)
        self._stream.seek(self._content_start(member))
        read_fully(self._stream, target)
        if verify and zlib.crc32(target) != member.checksum:
            raise CheckpointDamagedError(f"its member '{member.name}' does not match its checksum (CRC-32)")

    def place_of(self, name: str) -> tuple[int, int]:
        """Returns the offset in the file and the size in bytes of the content of a member."""
        member = self._member(name)
        return self._content_start(member), member.size

    def verify(self) -> None:
        """Verifies the checksum of every member."""
        for name in self.members:
            self.read(name.removeprefix(f"{self.root}/"), verify=True)

    def __contains__(self, name: str) -> bool:
        return f"{self.root}/{name}" in self.members

    def _member(self, name: str) -> Member:
        member = self.members.get(f"{self.root}/{name}")
        if member is None:
            raise CheckpointDamagedError(f"it has no member '{name}'")
        return member

    def _content_start(self, member: Member) -> int:
        self._stream.seek(member.start)
        header = self._stream.read(_LOCAL.size)
        if len(header) != _LOCAL.size or header[:4] != b"PK\x03\x04":
            raise CheckpointDamagedError(f"its member '{member.name}' has no header")
        _, _, flags, method, _, _, checksum, packed, size, name_size, extra_size = _LOCAL.unpack(header)
        stated = (checksum, packed, size)
        are_sizes_later = flags & _SIZES_FOLLOW and stated == (0, 0, 0)
        is_wide = _ESCAPED in (packed, size) and checksum in (0, member.checksum)
        is_same = are_sizes_later or is_wide or stated == (member.checksum, member.size, member.size)
        name = self._stream.read(name_size)
        start = member.start + _LOCAL.size + name_size + extra_size
        is_inside = start + member.size <= self._ends[member.name]
        if name != member.name.encode() or method or flags & _ENCRYPTED or not is_same or not is_inside:
            raise CheckpointDamagedError(
                f"the header of its member '{member.name}' does not match the archive's central directory"
            )
        return int(start)


def read_fully(stream: IO[bytes], target: memoryview) -> None:
    """Fills `target` with the next bytes of a stream.

    Raises:
        CheckpointDamagedError: The stream ends too early.
    """
    while len(target):
        count = stream.readinto(target)  # type: ignore[attr-defined]
        if not count:
            raise CheckpointDamagedError("it is truncated in the middle of a tensor")
        target = target[count:]


def _find_directory(stream: IO[bytes], comment: int) -> tuple[int, int, int]:
    """Returns the offset, size and number of entries of the directory. It must end where the end records begin."""
    end = stream.seek(0, 2) - comment - _END.size
    stream.seek(max(0, end))
    record = stream.read(_END.size)
    if end < 0 or record[:4] != b"PK\x05\x06" or _END.unpack(record)[-1] != comment:
        raise CheckpointDamagedError("the end of the archive is missing or misplaced")
    _, disk, first_disk, count_here, count, size, start, _comment = _END.unpack(record)
    stream.seek(max(0, end - _END_64_LOCATOR.size))
    locator = stream.read(_END_64_LOCATOR.size)
    has_locator = locator[:4] == b"PK\x06\x07"
    if _ESCAPED in (size, start) or count == _ESCAPED_COUNT or has_locator:
        narrow = ((start, _ESCAPED), (size, _ESCAPED), (count, _ESCAPED_COUNT))
        if len(locator) != _END_64_LOCATOR.size or not has_locator:
            raise CheckpointDamagedError("the end of the archive is incomplete")
        end_64 = _END_64_LOCATOR.unpack(locator)[2]
        if end_64 + _END_64.size + _END_64_LOCATOR.size != end:
            raise CheckpointDamagedError("the ZIP64 end of the archive is misplaced")
        end = stream.seek(end_64)
        record = stream.read(_END_64.size)
        if len(record) != _END_64.size or record[:4] != b"PK\x06\x06":
            raise CheckpointDamagedError("the end of the archive is incomplete")
        *_, disk, first_disk, count_here, count, size, start = _END_64.unpack(record)
        wide = start, size, count
        if any(value not in (escaped, there) for (value, escaped), there in zip(narrow, wide, strict=True)):
            raise CheckpointDamagedError("it is ambiguous, because the two end records of the archive differ")
    if (disk, first_disk, count_here) != (0, 0, count):
        raise CheckpointDamagedError("it claims to be one part of a larger archive")
    if start + size != end:
        raise CheckpointDamagedError("its ZIP central directory is misplaced")
    if count > _MOST_MEMBERS or size > _LONGEST_DIRECTORY:
        raise CheckpointError(f"it has {count} members, more than a checkpoint can have")
    return start, size, count


def _read_directory(directory: bytes) -> Iterator[Member]:
    position = 0
    while position < len(directory):
        entry = directory[position : position + _ENTRY.size]
        if len(entry) != _ENTRY.size or entry[:4] != b"PK\x01\x02":
            raise CheckpointDamagedError("its directory is invalid")
        flags, method = struct.unpack_from("<2H", entry, 8)
        checksum, packed, size, name_size, extra_size, comment_size = struct.unpack_from("<3L3H", entry, 16)
        (start,) = struct.unpack_from("<L", entry, 42)
        position += _ENTRY.size
        try:
            name = directory[position : position + name_size].decode()
        except UnicodeDecodeError as error:
            raise CheckpointDamagedError("a name in its directory is not UTF-8") from error
        if "\\" in name or "\0" in name or {"", ".", ".."} & set(name.removesuffix("/").split("/")):
            raise CheckpointDamagedError(f"it is ambiguous, because readers interpret the name {name!r} differently")
        extra = directory[position + name_size : position + name_size + extra_size]
        sizes = [size, packed, start]
        at = 0
        while _ESCAPED in sizes and at + 4 <= len(extra):  # values of 64 bits are in an extra field
            kind, length = struct.unpack_from("<2H", extra, at)
            field = extra[at + 4 : at + 4 + length]
            at += 4 + length
            if kind == _ZIP64_FIELD:
                wide = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
                sizes = [next(wide, value) if value == _ESCAPED else value for value in sizes]
                break
        size, packed, start = sizes
        if _ESCAPED in sizes:
            raise CheckpointDamagedError("its directory omits the size of a member")
        if method or flags & _ENCRYPTED or packed != size:
            raise CheckpointError(f"its member '{name}' is compressed or encrypted, unlike all files of torch.save")
        yield Member(name, start, size, checksum)
        position += name_size + extra_size + comment_size


def _checked_ends(members: list[Member], directory: int) -> dict[str, int]:
    """Maps each member to the position before which it must end: the start of the next member or of the directory."""
    ordered = sorted(members, key=lambda member: member.start)
    limits = [*(member.start for member in ordered), directory][1:]
    if ordered and ordered[0].start:
        raise CheckpointDamagedError("it is ambiguous, because it has data before its first member")
    for member, limit in zip(ordered, limits, strict=True):
        if member.start + _LOCAL.size + len(member.name.encode()) + member.size > limit:
            raise CheckpointError(
                f"its member '{member.name}' overlaps another one, or extends past the end of the file"
            )
    return {member.name: limit for member, limit in zip(ordered, limits, strict=True)}
