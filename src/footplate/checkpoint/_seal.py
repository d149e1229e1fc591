"""Writes and checks the seal at the end of a checkpoint, which is a digest of everything before it.

A checkpoint is the zip archive that `torch.save` writes. A zip archive may end in a comment, which readers ignore.
The seal is stored as this comment, so that content and digest are committed together:

    ... archive ... | end record (22 bytes) | footplate-checkpoint 1 saved=<ns> sha256=<64 hex digits>

The digest covers every byte before its first digit.
"""

import hashlib
import re
import struct
import time
from typing import IO, NamedTuple

from footplate.errors import CheckpointDamagedError, CheckpointError
from footplate.storage import Sink

_SAVED_DIGITS = 20
_PREFIX = "footplate-checkpoint 1 saved={saved:0{digits}d} sha256="
_PATTERN = re.compile(rb"footplate-checkpoint 1 saved=(\d{20}) sha256=([0-9a-f]{64})")
_DIGEST_BYTES = 64
_SEAL_BYTES = len(_PREFIX.format(saved=0, digits=_SAVED_DIGITS)) + _DIGEST_BYTES
_END_RECORD = b"PK\x05\x06"
_END_RECORD_BYTES = 22
_CHUNK_BYTES = 1 << 18  # small enough to stay in the CPU cache between reading and hashing


class Seal(NamedTuple):
    """The digest and the time at the end of a checkpoint.

    Attributes:
        digest: The recorded SHA-256, as 64 hexadecimal digits; None in files of other engines.
        saved: The time of the save, in nanoseconds since the epoch; 0 if unknown.
    """

    digest: str | None
    saved: int

    @property
    def length(self) -> int:
        """The length of the seal at the end of the file, in bytes; 0 without a digest."""
        return 0 if self.digest is None else _SEAL_BYTES


class SealingSink:
    """Forwards an archive to another sink while it is written, and appends the seal.

    An error of that sink is stored and raised by `seal`, because torch's writer crashes on exceptions.

    Args:
        sink: The sink that receives the bytes.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()
        self._tail = b""
        self._error: BaseException | None = None

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:
        """Forwards bytes, except for the last 22, which may be the end record that `seal` modifies."""
        view = memoryview(data).cast("B")
        size = len(view)
        if size >= _END_RECORD_BYTES:
            self._pass_on(memoryview(self._tail))
            self._pass_on(view[:-_END_RECORD_BYTES])
            self._tail = bytes(view[-_END_RECORD_BYTES:])
        else:
            held = self._tail + bytes(view)
            self._pass_on(memoryview(held[:-_END_RECORD_BYTES]))
            self._tail = held[-_END_RECORD_BYTES:]
        return size

    def flush(self) -> None:
        """Does nothing, because the last 22 bytes must be held back until `seal`."""

    def seal(self) -> None:
        """Writes the end record and the seal as its comment.

        Raises:
            OSError: The sink refused this or something before.
            CheckpointError: What was written is no archive.
        """
        if self._error is None and not self._tail.startswith(_END_RECORD):
            raise CheckpointError("torch wrote an archive of unknown form, which cannot be sealed")
        comment = _PREFIX.format(saved=time.time_ns(), digits=_SAVED_DIGITS).encode()
        self._pass_on(memoryview(self._tail[:-2] + struct.pack("<H", _SEAL_BYTES) + comment))
        digest = self._hash.hexdigest()
        self._pass_on(memoryview(digest.encode()))
        if self._error is not None:
            raise self._error

    def _pass_on(self, data: memoryview) -> None:
        if self._error is not None or not len(data):
            return
        try:
            self._hash.update(data)
            self._sink.write(data)
        except BaseException as error:  # noqa: BLE001 - raised again by `seal`
            self._error = error


def read_seal(stream: IO[bytes]) -> Seal:
    """Returns the seal at the end of an open file without checking it.

    Raises:
        OSError: It cannot be read.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _SEAL_BYTES))
    found = _PATTERN.fullmatch(stream.read(_SEAL_BYTES))
    if not found:
        return Seal(None, 0)
    return Seal(found[2].decode(), int(found[1]))


def check_seal(stream: IO[bytes]) -> Seal:
    """Reads an open file to its end, checks its digest and returns its seal.

    The seal of an unsealed file has no digest, and nothing is checked.

    Raises:
        CheckpointDamagedError: The digest is not that of the content.
        OSError: It cannot be read.
    """
    seal = read_seal(stream)
    if seal.digest is None:
        return seal
    found = _hash_until(stream, stream.seek(0, 2) - _DIGEST_BYTES)
    if found != seal.digest:
        raise CheckpointDamagedError(
            "its content is not what was written",
            notes=[f"expected sha256 {seal.digest}", f"   found sha256 {found}"],
        )
    return seal


def _hash_until(stream: IO[bytes], end: int) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    stream.seek(0)
    while end:
        count = stream.readinto(buffer[: min(end, _CHUNK_BYTES)])  # type: ignore[attr-defined]
        if not count:
            break
        digest.update(buffer[:count])
        end -= count
    return digest.hexdigest()
