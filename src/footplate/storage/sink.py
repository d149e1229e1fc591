"""The sink that a file is written to during an atomic write."""

import os
from typing import Protocol, TypeAlias

Data: TypeAlias = "bytes | bytearray | memoryview"

_BUFFER_BYTES = 1 << 20


class Sink(Protocol):
    """An object that bytes are written to in order."""

    def write(self, data: Data, /) -> int:
        """Writes all of `data` and returns its number of bytes."""
        ...

    def flush(self) -> None:
        """Writes out the buffer."""
        ...


class DescriptorSink:
    """Buffers small writes to a file descriptor. Does not close it.

    Args:
        descriptor: The file to write to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()

    def write(self, data: Data, /) -> int:
        """Writes `data`; large data is not copied.

        Raises:
            OSError: Writing failed.
        """
        size = memoryview(data).nbytes
        if len(self._buffer) + size < _BUFFER_BYTES:
            self._buffer += data
            return size
        self.flush()
        self._write_all(memoryview(data).cast("B"))
        return size

    def flush(self) -> None:
        """Writes the buffer to the file descriptor.

        Raises:
            OSError: Writing failed.
        """
        buffer, self._buffer = self._buffer, bytearray()
        self._write_all(memoryview(buffer))

    def _write_all(self, data: memoryview) -> None:
        while len(data):
            data = data[os.write(self._descriptor, data) :]
