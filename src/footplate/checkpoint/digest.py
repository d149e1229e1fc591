"""Writes and verifies the SHA-256 digest at the end of a checkpoint file.

A checkpoint is the zip archive that `torch.save` writes. The digest is stored in the archive's comment, which zip
readers ignore, so renaming one file commits the content and its digest together:

    ... archive ... | end record (22 bytes) | footplate-checkpoint 1 saved=<ns> sha256=<64 hex digits>

The digest covers every byte before its first digit.
"""

import hashlib
import re
import struct
import time
from typing import IO, NamedTuple

from footplate.errors import CheckpointDamagedError, CheckpointError

_COMMENT = "footplate-checkpoint 1 saved={saved:020d} sha256="
_PATTERN = re.compile(rb"footplate-checkpoint 1 saved=(\d{20}) sha256=([0-9a-f]{64})")
_DIGEST_BYTES = 64
_COMMENT_BYTES = len(_COMMENT.format(saved=0)) + _DIGEST_BYTES
END_RECORD = b"PK\x05\x06"
END_RECORD_BYTES = 22
_CHUNK_BYTES = 1 << 18  # small enough to stay in the CPU cache between reading and hashing


class Digest(NamedTuple):
    """The digest and the save time recorded in a checkpoint."""

    sha256: str | None  # the recorded SHA-256 as 64 hexadecimal digits, or None in files from other programs
    saved: int  # the time of the save in nanoseconds since the epoch, or 0 if unknown

    @property
    def length(self) -> int:
        """The length of the archive comment in bytes, or 0 if there is no digest."""
        return 0 if self.sha256 is None else _COMMENT_BYTES


class DigestSink:
    """Forwards the bytes of an archive to another sink, and appends the digest.

    Stores errors from the other sink and raises them in `finish`, because torch's writer would crash on an exception.

    Args:
        sink: The sink that receives the bytes.
    """

    def __init__(self, sink: IO[bytes]) -> None:
        self._sink = sink
        self._sha256 = hashlib.sha256()
        self._error: BaseException | None = None
        self._tail = b""  # the last 22 bytes: possibly the end record, which `finish` modifies

    def write(self, data: "bytes | bytearray | memoryview", /) -> int:
        """Forwards all bytes except the last 22, which may be the end record that `finish` modifies."""
        view = memoryview(data).cast("B")
        size = len(view)
        if size < END_RECORD_BYTES:  # possibly only a part of the end record
            view = memoryview(self._tail + bytes(view))
        else:
            self._forward(self._tail)
        self._tail = bytes(view[-END_RECORD_BYTES:])
        self._forward(view[:-END_RECORD_BYTES])
        return size

    def _forward(self, data: "bytes | memoryview") -> None:
        if self._error is None:
            try:
                self._sha256.update(data)
                self._sink.write(data)
            except BaseException as error:  # noqa: BLE001 - raised by `finish`
                self._error = error

    def flush(self) -> None:
        """Does nothing; the other sink is flushed at the end."""

    def finish(self) -> Digest:
        """Writes the end record with the digest as its comment, and returns the digest.

        Raises:
            OSError: The sink failed in this call or in an earlier one.
            CheckpointError: The data is not an archive.
        """
        if self._error is None and not self._tail.startswith(END_RECORD):
            raise CheckpointError("torch wrote an archive in an unknown format, so no digest can be added")
        saved = time.time_ns()
        comment = _COMMENT.format(saved=saved).encode()
        self._forward(self._tail[:-2] + struct.pack("<H", _COMMENT_BYTES) + comment)
        digest = Digest(self._sha256.hexdigest(), saved)
        self._forward(str(digest.sha256).encode())
        if self._error is not None:
            raise self._error
        return digest


def read_digest(stream: IO[bytes]) -> Digest:
    """Returns the digest recorded at the end of an open file, without verifying it.

    Raises:
        OSError: The file cannot be read.
    """
    stream.seek(max(0, stream.seek(0, 2) - _COMMENT_BYTES))
    match = _PATTERN.fullmatch(stream.read(_COMMENT_BYTES))
    return Digest(match[2].decode(), int(match[1])) if match else Digest(None, 0)


def verify_digest(stream: IO[bytes]) -> Digest:
    """Verifies an open file against its digest, and returns the digest. Skips verification if the file has none.

    Raises:
        CheckpointDamagedError: The digest does not match the content.
        OSError: The file cannot be read.
    """
    recorded = read_digest(stream)
    if recorded.sha256 is None:
        return recorded
    actual = sha256_of(stream, before_end=_DIGEST_BYTES)
    if actual != recorded.sha256:
        raise CheckpointDamagedError(
            "the file content does not match its checksum",
            notes=[f"expected sha256 {recorded.sha256}", f"   found sha256 {actual}"],
        )
    return recorded


def sha256_of(stream: IO[bytes], *, before_end: int = 0) -> str:
    """Returns the SHA-256 digest of an open file, excluding the last `before_end` bytes.

    Raises:
        OSError: The file cannot be read.
    """
    left = stream.seek(0, 2) - before_end
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    stream.seek(0)
    while count := stream.readinto(buffer[: min(left, _CHUNK_BYTES)]):  # type: ignore[attr-defined]
        digest.update(buffer[:count])
        left -= count
    return digest.hexdigest()
