"""The hub on rank 0 and its connections. The hub collects the status of all ranks and determines why they exit."""

import contextlib
import errno
import hmac
import json
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from footplate.distributed.failure_report import (
    MAX_LINES,
    Failure,
    LostRank,
    RankStatus,
    describe_death,
    describe_failure,
    describe_timeout,
    describe_waiting,
    disable_crash_dump,
    enable_crash_dump,
    innermost_line_of_dump,
)

# All in seconds.
_SAME_ERROR_WINDOW = 0.3  # time for other ranks to report the same error
_DEATH_WINDOW = 0.5  # time for ranks to report their status, and how the dead process ended
_CAUSE_WINDOW = 2.0  # time to report the cause of an error that may be a consequence
_STATUS_TIMEOUT = 1.0
_CRASH_IDLE = 0.2  # between the end of a connection and the end of the crash dump
_TICK = 0.05
_logger = logging.getLogger("footplate.distributed")
_CHUNK_BYTES = 1 << 16
_MAX_BYTES = 1 << 20
_SEND_TIMEOUT = 30.0


class Channel:
    """One end of a connection between ranks. It carries JSON messages, one per line, and possibly a crash dump."""

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
        """Waits for data and returns the complete messages, or None if the connection has ended.

        Data that is not a message is treated as the end of the connection, because anyone can connect to an open port.
        If it follows a message, it is kept for the next call or for `read_text`.
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
            try:
                message = json.loads(first)
            except ValueError:
                message = None
            if not isinstance(message, dict) or "kind" not in message:
                return messages or None
            messages.append(message)
            self._buffer = rest
        return messages if len(self._buffer) < _MAX_BYTES else None

    def read_text(self, idle: float) -> str:
        """Reads all remaining data as text.

        Args:
            idle: The number of seconds without data after which the connection counts as ended.
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


class Hub(threading.Thread):
    """A thread on rank 0 that receives messages from all ranks and, after a failure, sends them the reason to exit.

    A rank whose connection closes during a run has died, because the operating system closes the sockets of a process.
    An error that may be a consequence of another failure is delayed, so that its cause can be reported first.

    Args:
        server: A listening socket.
        token: The secret that ranks send to authenticate.
        world_size: The number of ranks.
        limit: The number of seconds that a rank may wait for others.

    Attributes:
        save_crash: Called with a rank and its crash dump; returns the file that it was saved to, or "".
        last_checkpoint: Called for each report; returns the path of the last checkpoint, or "".
    """

    def __init__(self, server: socket.socket, token: str, world_size: int, limit: float) -> None:
        super().__init__(name="footplate-hub", daemon=True)
        self.save_crash: Callable[[int, str], str] = lambda rank, dump: ""
        self.last_checkpoint: Callable[[], str] = lambda: ""
        self._server, self._token, self._world_size, self._limit = server, token, world_size, limit
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ)
        self._channels: dict[int, Channel] = {}
        self._crash_channels: dict[int, Channel] = {}  # carry nothing but crash dumps
        self._hosts: dict[int, str] = {}
        self._processes: dict[int, tuple[int, str]] = {}
        self._last_seen: dict[int, tuple[RankStatus, float]] = {}
        self._running: set[int] = set()
        self._failures: list[Failure] = []
        self._dead: dict[int, LostRank] = {}
        self._statuses: dict[int, RankStatus] = {}
        self._deadline: float | None = None
        self._has_timeout = False
        self._next_warning = 0.0
        self._has_reported = False

    def run(self) -> None:
        """Handles messages until the process exits."""
        while True:
            for key, _ in self._selector.select(_TICK if self._deadline is not None else None):
                if key.fileobj is not self._server:
                    self._receive(key.fileobj, key.data)  # type: ignore[arg-type]  # a Channel and its rank
                    continue
                try:
                    self._selector.register(Channel(self._server.accept()[0]), selectors.EVENT_READ)
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE):  # otherwise, the client has left
                        self._selector.unregister(self._server)
                        _logger.warning(
                            "Some ranks are not monitored: too many open files. Raise the limit with ulimit -n."
                        )
            if self._deadline is not None:
                has_codes = all(each.exit_code is not None for each in self._dead.values())
                has_statuses = self._statuses.keys() >= self._channels.keys()
                if time.monotonic() >= self._deadline or (not self._failures and has_codes and has_statuses):
                    self._conclude()

    def close(self) -> None:
        """Closes the hub's sockets. Called in forked processes."""
        self._server.close()
        for channel in [*self._channels.values(), *self._crash_channels.values()]:
            channel.close()

    def _receive(self, channel: Channel, rank: int | None) -> None:
        """Handles the messages on a connection. `rank` is None until its message "hello" arrives."""
        messages = channel.receive()
        if messages is None:
            self._selector.unregister(channel)
            channel.close()
            if rank is not None:
                self._on_disconnect(rank)
            return
        for message in messages:
            kind = message.pop("kind")
            if rank is not None:
                getattr(self, f"_on_{kind}")(rank, **message)
                continue
            token = str(message.get("token")).encode(errors="replace")
            if kind not in ("hello", "crashes") or not hmac.compare_digest(token, self._token.encode()):
                self._selector.unregister(channel)
                channel.close()
                return
            if kind == "hello":
                rank, host, process, began = (message[name] for name in ("rank", "host", "process", "began"))
                self._selector.modify(channel, selectors.EVENT_READ, rank)
                self._channels[rank], self._hosts[rank], self._processes[rank] = channel, host, (process, began)
                self._running.add(rank)
            else:
                self._selector.unregister(channel)
                self._crash_channels[message["rank"]] = channel
            if len(self._channels) == len(self._crash_channels) == self._world_size:
                self._broadcast("hosts", hosts=self._hosts, processes=self._processes)
                enable_crash_dump(self._crash_channels[1].fileno())  # rank 1 reports a crash of rank 0

    def _on_begin(self, rank: int) -> None:
        self._running.add(rank)

    def _on_done(self, rank: int) -> None:
        self._running.discard(rank)
        if rank == 0:
            self._broadcast("leaving")

    def _on_failed(self, rank: int, status: Any, **content: Any) -> None:
        failure = Failure(status=RankStatus(*status), **content)
        if self._dead:
            failure = failure._replace(may_be_consequence=True)
        self._failures.append(failure)
        self._statuses[rank] = failure.status
        self._decide_within(_CAUSE_WINDOW if failure.may_be_consequence else _SAME_ERROR_WINDOW)

    def _on_waiting(self, rank: int, status: Any, has_timeout: bool) -> None:
        self._has_timeout = self._has_timeout or has_timeout
        self._channels[rank].send("acknowledged")  # if all ranks wait in one place, nothing else is sent
        self._statuses[rank] = RankStatus(*status)
        self._decide_within(_STATUS_TIMEOUT)

    def _on_status(self, rank: int, status: Any) -> None:
        self._statuses[rank] = RankStatus(*status)

    def _on_moved(self, rank: int, status: Any) -> None:
        self._last_seen[rank] = RankStatus(*status), time.monotonic()

    def _on_exit(self, rank: int, of: int, code: int) -> None:
        if of in self._dead:
            self._dead[of] = self._dead[of]._replace(exit_code=code)

    def _on_disconnect(self, rank: int) -> None:
        """Handles the end of a connection. During a run, it means that the rank has died."""
        host, dump = self._hosts[rank], ""
        crash_channel = self._crash_channels.pop(rank, None)
        if crash_channel is not None:
            dump = crash_channel.read_text(_CRASH_IDLE)
            disable_crash_dump(crash_channel.fileno())
            crash_channel.close()
        del self._channels[rank], self._hosts[rank]
        self._statuses.pop(rank, None)
        if rank not in self._running or self._has_failed(rank):
            return
        self._dead[rank] = self._lost_rank(rank, host)
        if dump:
            log = self.save_crash(rank, dump)
            self._dead[rank] = self._dead[rank]._replace(line=innermost_line_of_dump(dump), log=log)
        self._broadcast("gone", rank=rank)
        self._decide_within(_DEATH_WINDOW)

    def _lost_rank(self, rank: int, host: str) -> LostRank:
        lost = LostRank(rank, host, self._processes[rank][0])
        if rank in self._last_seen:
            status, when = self._last_seen[rank]
            lost = lost._replace(last_status=status, seconds_ago=time.monotonic() - when)
        return lost

    def _decide_within(self, seconds: float) -> None:
        """Schedules the failure report for no later than `seconds` seconds from now.

        The first call asks all ranks for their status. Later calls can only move the deadline earlier.
        """
        if self._has_reported:
            return
        deadline = time.monotonic() + seconds
        if self._deadline is None:
            self._statuses = {rank: status for rank, status in self._statuses.items() if self._has_failed(rank)}
            self._broadcast("query", is_ending=bool(self._failures or self._dead))
        elif self._failures or self._dead:
            self._broadcast("ending")
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)

    def _has_failed(self, rank: int) -> bool:
        return any(each.status.rank == rank for each in self._failures)

    def _conclude(self) -> None:
        """Sends the failure report to all ranks, or logs a warning if ranks are merely waiting for each other."""
        self._deadline = None
        statuses = [status for _, status in sorted(self._statuses.items())]
        silent = [self._lost_rank(rank, self._hosts[rank]) for rank in sorted(self._channels.keys() - self._statuses)]
        waited = max((each.seconds for each in statuses if each.is_waiting), default=0.0)
        is_late = bool(silent) or any(not each.is_waiting for each in statuses)
        is_apart = is_late or len({str(each) for each in statuses}) > 1
        cause = next((each for each in self._failures if not each.may_be_consequence), None)
        report = None
        if cause is None and self._dead:
            report = describe_death([*self._dead.values()], statuses, self._hosts)
        elif cause is None and is_apart and (self._has_timeout or (self._failures and waited > self._limit / 2)):
            report = describe_timeout(statuses, waited, silent, self._hosts)
        elif self._failures:
            first = cause or self._failures[0]
            same_error = [each.status.rank for each in self._failures if each.text == first.text]
            report = describe_failure(first, same_error, self._world_size, self._hosts)
        self._has_timeout = False
        if report is not None:
            self._has_reported = True
            checkpoint = self.last_checkpoint()
            if checkpoint and report.text.count("\n") < MAX_LINES - 1:
                line = f"\n  the last checkpoint is {checkpoint}; use --resume to continue from it"
                report = report._replace(text=report.text + line)
            self._broadcast("report", report=report)
            return
        longest = max((each.seconds for each in statuses), default=0.0)
        line, now = describe_waiting(statuses, longest), time.monotonic()
        if line and now >= self._next_warning and 0 in self._channels:
            self._channels[0].send("warning", line=line)
            self._next_warning = now + longest / 2  # every waiting rank asks for the warning

    def _broadcast(self, kind: str, **content: Any) -> None:
        """Sends a message to all ranks. Rank 0 receives it last, because the hub runs in its process."""
        for rank in sorted(self._channels, reverse=True):
            self._channels[rank].send(kind, **content)
