"""Messages of ranks to each other beside the training, one line of JSON each, and the text of a crash behind one."""

import contextlib
import json
import socket
import threading
from typing import Any

_PIECE = 1 << 16
_LONGEST = 1 << 20
_PATIENCE = 30.0  # seconds


class Channel:
    """One end of a connection.

    Args:
        connection: A connected socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._rest = b""
        self._lock = threading.Lock()
        # By this the socket does not block, so that a crash does not wait for a reader of its stack.
        connection.settimeout(_PATIENCE)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A machine that is gone says nothing: it is found out after some 25 seconds.
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self) -> int:
        """Returns the number by which the operating system knows it."""
        return self._socket.fileno()

    def send(self, kind: str, **content: Any) -> None:
        """Sends a message; one that cannot be sent is lost, as the other end is. Called from any thread."""
        data = json.dumps({"kind": kind, **content}).encode() + b"\n"
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(data)

    def receive(self) -> list[dict[str, Any]] | None:
        """Returns the messages that are there, waiting for the first bytes of one; None at the end.

        What is no message counts as the end, since anybody can find an open port; behind a message it waits for the
        next call, or for `last_words`.
        """
        try:
            piece = self._socket.recv(_PIECE)
        except OSError:
            return None
        if not piece:
            return None
        messages: list[dict[str, Any]] = []
        self._rest += piece
        while b"\n" in self._rest:
            first, _, rest = self._rest.partition(b"\n")
            message = _read(first)
            if message is None:
                return messages or None
            messages.append(message)
            self._rest = rest
        return messages if len(self._rest) < _LONGEST else None

    def last_words(self, within: float) -> str:
        """Returns the text that comes until the end of the connection, of which nothing else is read then.

        Args:
            within: The seconds for which nothing comes, behind which it counts as the end.
        """
        self._socket.settimeout(within)
        with contextlib.suppress(OSError):
            while len(self._rest) < _LONGEST and (piece := self._socket.recv(_PIECE)):
                self._rest += piece
        return self._rest.decode(errors="replace")

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()


def _read(text: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "kind" in found else None
