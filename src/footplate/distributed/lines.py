"""Messages of ranks to each other beside the training: one line of JSON each, and text behind them."""

import contextlib
import json
import socket
import threading
from typing import Any

_PIECE = 1 << 16
_LONGEST = 1 << 20
_PATIENCE = 30.0  # seconds


class Line:
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

        What is no message counts as the end: anybody can find an open port.
        """
        try:
            piece = self._socket.recv(_PIECE)
        except OSError:
            return None
        if not piece:
            return None
        *whole, self._rest = (self._rest + piece).split(b"\n")
        try:
            messages = [json.loads(each) for each in whole]
        except ValueError:
            return None
        sound = all(isinstance(each, dict) and "kind" in each for each in messages)
        return messages if sound and len(self._rest) < _LONGEST else None

    def last_words(self, within: float) -> str:
        """Returns the text that comes until the end of the connection.

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
