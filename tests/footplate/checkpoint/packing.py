"""Archives as written by torch.save, and invalid ones."""

import struct
import zlib

_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")


def pack(
    members: dict[str, bytes],
    *,
    method: int = 0,
    sizes: dict[str, int] | None = None,
    starts: dict[str, int] | None = None,
    count: int | None = None,
    tail: bytes = b"",
) -> bytes:
    """Builds an archive, optionally with false directory entries."""
    body, directory = bytearray(), bytearray()
    for name, content in members.items():
        checksum, size = zlib.crc32(content), (sizes or {}).get(name, len(content))
        start = (starts or {}).get(name, len(body))
        spelled = name.encode()
        body += _LOCAL.pack(b"PK\x03\x04", 20, 0, method, 0, 0, checksum, len(content), size, len(spelled), 0)
        body += spelled + content
        directory += _ENTRY.pack(
            *(b"PK\x01\x02", 20, 20, 0, method, 0, 0, checksum, len(content) if method else size, size),
            *(len(spelled), 0, 0, 0, 0, 0, start),
        )
        directory += spelled
    listed = len(members) if count is None else count
    end = _END.pack(b"PK\x05\x06", 0, 0, listed, listed, len(directory), len(body), len(tail))
    return bytes(body + directory) + end + tail
