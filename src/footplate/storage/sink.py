"""What a file is written into while it is committed."""

import os
from typing import Protocol, TypeAlias

Data: TypeAlias = "bytes | bytearray | memoryview"

_BUFFER_BYTES = 1 << 20


class Sink(Protocol):
    """Something that takes bytes in order."""

    def write(self, data: Data, /) -> int:
        """Takes `data` and returns how many bytes it took: all of them."""
        ...

    def flush(self) -> None:
        """Passes on what is still held."""
        ...


class DescriptorSink:
    """Collects small writes and passes them to a file descriptor, which stays open.

    Args:
        descriptor: The file to write to.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = bytearray()

    def write(self, data: Data, /) -> int:
        """Takes `data`; large pieces are not copied.

        Raises:
            OSError: The operating system refuses them.
        """
        size = memoryview(data).nbytes
        if len(self._held) + size < _BUFFER_BYTES:
            self._held += data
            return size
        self.flush()
        self._write_all(memoryview(data).cast("B"))
        return size

    def flush(self) -> None:
        """Passes what is held to the operating system.

        Raises:
            OSError: It refuses it.
        """
        held, self._held = self._held, bytearray()
        self._write_all(memoryview(held))

    def _write_all(self, data: memoryview) -> None:
        while len(data):
            data = data[os.write(self._descriptor, data) :]
