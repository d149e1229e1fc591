"""Connections between ranks that carry JSON messages, one per line, optionally followed by a crash dump."""

import contextlib
import json
import socket
import threading
from typing import Any

_CHUNK_BYTES = 1 << 16
_MAX_BYTES = 1 << 20
_SEND_TIMEOUT = 30.0  # seconds


class Channel:
    """One end of a connection between ranks.

    Args:
        connection: A connected socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""
        self._lock = threading.Lock()
        # This makes the descriptor non-blocking, so that a crash dump never waits for its reader.
        connection.settimeout(_SEND_TIMEOUT)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A machine that disappears is detected after about 25 seconds.
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self) -> int:
        """Returns the file descriptor of the socket."""
        return self._socket.fileno()

    def send(self, kind: str, **content: Any) -> None:
        """Sends a message. It is dropped if the connection is broken. Thread-safe."""
        data = json.dumps({"kind": kind, **content}).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(data)

    def receive(self) -> list[dict[str, Any]] | None:
        """Waits for data and returns the complete messages, or None at the end of the connection.

        Data that is not a message counts as the end, because anyone can connect to an open port. If it follows a
        message, it is kept for the next call or for `read_text`.
        """
        try:
            chunk = self._socket.recv(_CHUNK_BYTES)
        except OSError:
            return None
        if not chunk:
            return None
        messages: list[dict[str, Any]] = []
        self._buffer += chunk
        while b"\n" in self._buffer:
            first, _, rest = self._buffer.partition(b"\n")
            message = _parse(first)
            if message is None:
                return messages or None
            messages.append(message)
            self._buffer = rest
        return messages if len(self._buffer) < _MAX_BYTES else None

    def read_text(self, idle: float) -> str:
        """Reads all remaining data as text.

        Args:
            idle: The connection counts as ended after this many seconds without data.
        """
        self._socket.settimeout(idle)
        with contextlib.suppress(OSError):
            while len(self._buffer) < _MAX_BYTES and (chunk := self._socket.recv(_CHUNK_BYTES)):
                self._buffer += chunk
        return self._buffer.decode(errors="replace")

    def close(self) -> None:
        """Closes the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "kind" in found else None
