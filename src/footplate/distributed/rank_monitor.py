"""The rank monitor reports failures of its rank to the other ranks, and ends its rank when another rank fails.

It adds no cost to the training loop. A thread inspects the stack of the main thread once a second, and sends its status
only when the phase has changed.
"""

import atexit
import contextlib
import multiprocessing.util
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from select import select
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import Any

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from footplate.distributed.collectives import broadcast_object, get_rank, get_world_size
from footplate.distributed.failure_hub import Channel, Hub
from footplate.distributed.failure_report import (
    Failure,
    FailureReport,
    LocalProcess,
    LostRank,
    RankStatus,
    describe_death,
    describe_silence,
    disable_crash_dump,
    enable_crash_dump,
    indicates_lost_rank,
    innermost_line_of_dump,
    start_time_of,
)
from footplate.errors import RankError
from footplate.messages import printable

# All in seconds.
_CONNECT_TIMEOUT = 10.0
_EXIT_TIMEOUT = 2.0  # time for the main thread to exit on its own
_REPORT_TIMEOUT = 8.0  # time to wait for the report of the hub
_HUB_TIMEOUT = 3.0  # time to wait for any message from the hub
_LEAVE_TIMEOUT = 1.0  # time for the other ranks to learn that rank 0 exits
_EXIT_CODE_TIMEOUT = 0.3  # time between the end of a connection and the end of its process
_FIRST_WARNING = 30.0
_RANKS_PER_SECOND = 64  # the number of ranks that may send their status to the hub each second

Stack = list[tuple[FrameType, int]]
InspectStack = Callable[[Stack], tuple[str, bool, str]]
_current: "RankMonitor | None" = None


class RankMonitor(threading.Thread):
    """A thread that exchanges status updates and failure messages with the hub.

    Args:
        channel: The connection for messages to and from the hub.
        crash_channel: The connection that a crash dump of this process is written to. It carries nothing else: when a
            connection closes with unread messages, data in flight is lost.
        limit: The number of seconds that a rank may wait for others.
        inspect_stack: Takes a stack (frames with their lines, outermost first) and returns its phase, whether it is
            waiting for other ranks, and the line of code.

    Attributes:
        report: The reason why all ranks exit, once it is known.
        is_ending: Whether all ranks will exit because a failure was reported.
        iteration: Returns the current iteration, counted from 1, or None.
        path: The log file of this rank for errors; empty if there is none.
        warn: Logs a warning.
        last_checkpoint: Returns the path of the last checkpoint, or "". Called only on rank 0.
        wrap_text: Wraps text to the width of the terminal.
    """

    def __init__(self, channel: Channel, crash_channel: Channel, *, limit: float, inspect_stack: InspectStack) -> None:
        super().__init__(name="footplate-rank-monitor", daemon=True)
        self.group = dist.group.WORLD
        self.rank, self.world_size, self.host = get_rank(), get_world_size(), socket.gethostname()
        self.report: FailureReport | None = None
        self.is_ending = False
        self.iteration: Callable[[], int | None] = lambda: None
        self.path = ""
        self.warn: Callable[[str], None] = lambda text: None
        self.last_checkpoint: Callable[[], str] = lambda: ""
        self.wrap_text: Callable[[str], str] = lambda text: text
        self._channel, self._crash_channel = channel, crash_channel
        self._limit, self._inspect_stack = limit, inspect_stack
        self._main_thread = threading.main_thread().ident
        self._hosts: dict[int, str] = {}
        self._local_processes: dict[int, LocalProcess] = {}
        self._processes: dict[int, tuple[int, str]] = {}
        self._sent, self._sent_at = RankStatus(self.rank, self.host), 0.0
        self._status, self._phase_began = RankStatus(self.rank, self.host), time.monotonic()
        self._next_warning = min(_FIRST_WARNING, limit / 2)
        self._is_running = True
        self._has_reported, self._has_left, self._may_leave = (threading.Event() for _ in range(3))
        self._has_timeout, self._timeout_sent_at = False, float("inf")

    @property
    def at_work(self) -> bool:
        """Whether the other ranks depend on this rank, so that its exit would be a failure."""
        return self._is_running

    def begin(self) -> None:
        """Notifies the hub that a run is starting. If the process exits during the run, the hub reports it as dead."""
        self._is_running = True
        self._may_leave.clear()
        self._channel.send("begin")

    def done(self) -> None:
        """Notifies the hub that the run of this rank is over, so that its process may exit."""
        if not self._is_running:
            return
        self._is_running = False
        self._channel.send("done")
        if self.rank == 0:
            self._may_leave.wait(_LEAVE_TIMEOUT)  # until the others know that the hub may exit

    def fail(self, error: BaseException, text: str, code: int, *, log: str = "") -> FailureReport:
        """Reports an error of this rank, and returns the printed report with the reason why all ranks exit.

        `text` and `code` are the message and the exit code for the error, and `log` is the file with the traceback.
        """
        self.is_ending, status = True, self._status_of(error)
        may_be_consequence = status.is_waiting or indicates_lost_rank(error)
        may_be_consequence = may_be_consequence and not isinstance(error, RankError)
        if self.report is None:
            failure = Failure(status, text, code, may_be_consequence=may_be_consequence, log=log)
            if not may_be_consequence:
                get_error_handler().record_exception(error)
            self._channel.send("failed", **{**failure._asdict(), "status": list(status)})
            self._has_reported.wait(_REPORT_TIMEOUT)
        self._has_left.set()
        if self.report is None and 0 in self._hosts and self.rank:
            self._report_silence(status, text, 1 if may_be_consequence else code)
        return self.report or FailureReport(text, code, [self.rank], [self.rank])

    def close(self) -> None:
        """Closes the monitor's file descriptors. Called in forked processes."""
        self._is_running = False
        disable_crash_dump()
        self._channel.close()
        self._crash_channel.close()
        for each in list(self._local_processes.values()):
            each.close()

    def save_crash(self, rank: int, dump: str) -> str:
        """Saves the crash dump of a rank to its log file and returns the file, or "" if there is no log folder."""
        path = os.path.join(os.path.dirname(self.path), f"rank_{rank}.log")
        return path if self.path and _append(path, dump) else ""

    def run(self) -> None:
        """Handles messages and monitors the main thread until the process exits or the connection to the hub ends."""
        tick = min(1.0, self._limit / 20)
        while True:
            if select([self._channel], [], [], tick)[0]:
                messages = self._channel.receive()
                if messages is None:
                    break
                self._timeout_sent_at = float("inf")  # the hub responds
                for message in messages:
                    getattr(self, f"_on_{message.pop('kind')}")(**message)
            self._update_status()
        if self._is_running and self.report is None and 0 in self._hosts:  # rank 0 has died
            lost, dump = self._rank_0(), self._crash_channel.read_text(_EXIT_CODE_TIMEOUT)
            if 0 in self._local_processes:
                lost = lost._replace(exit_code=self._local_processes[0].exit_code(_EXIT_CODE_TIMEOUT))
            if dump:
                lost = lost._replace(line=innermost_line_of_dump(dump), log=self.save_crash(0, dump))
            self._update_status()
            self._end(describe_death([lost], [self._status], self._other_hosts()))

    def _update_status(self) -> None:
        """Inspects the main thread, and notifies the hub if the thread has been waiting for a long time."""
        frame = sys._current_frames().get(self._main_thread or 0)
        if frame is None or self.report is not None:
            return
        phase, is_waiting, line = self._inspect_stack([*walk_stack(frame)][::-1])
        status = RankStatus(self.rank, self.host, phase, self.iteration(), is_waiting, 0.0, line)
        now = time.monotonic()
        if (status.phase, status.iteration) != (self._status.phase, self._status.iteration):
            self._phase_began, self._next_warning = now, min(_FIRST_WARNING, self._limit / 2)
            self._has_timeout = False
        self._status = status._replace(seconds=now - self._phase_began)
        has_moved = (self._status.phase, self._status.iteration) != (self._sent.phase, self._sent.iteration)
        # The hub keeps the last status, in case this rank dies. Large worlds send less often.
        if has_moved and self._is_running and now - self._sent_at >= max(1.0, self.world_size / _RANKS_PER_SECOND):
            self._sent, self._sent_at = self._status, now
            self._channel.send("moved", status=self._status)
        if not (is_waiting and self._is_running) or self.is_ending:
            return
        if now - self._timeout_sent_at > _HUB_TIMEOUT and self.rank and 0 in self._hosts:
            self._report_silence(self._status)
        elif self._status.seconds >= self._limit and not self._has_timeout:
            self._has_timeout, self._timeout_sent_at = True, now
            self._channel.send("waiting", status=self._status, has_timeout=True)
        elif self._status.seconds >= self._next_warning:
            self._next_warning *= 2
            self._channel.send("waiting", status=self._status, has_timeout=False)

    def _status_of(self, error: BaseException) -> RankStatus:
        stack, seen = [*walk_tb(error.__traceback__)], [error]
        cause = error.__cause__
        while cause is not None and cause not in seen:  # an error is often wrapped far from where it was raised
            stack += walk_tb(cause.__traceback__)
            seen.append(cause)
            cause = cause.__cause__
        phase, is_waiting, line = self._inspect_stack(stack)
        seconds = time.monotonic() - self._phase_began
        return RankStatus(self.rank, self.host, phase, self.iteration(), is_waiting, seconds, line)

    def _on_hosts(self, hosts: dict[str, str], processes: dict[str, Any]) -> None:
        self._hosts = {int(rank): host for rank, host in hosts.items()}  # JSON has strings as keys
        self._processes = {int(rank): (process, began) for rank, (process, began) in processes.items()}
        for rank, host in self._hosts.items():
            if host == self.host and rank != self.rank:
                self._local_processes[rank] = LocalProcess(*self._processes[rank])

    def _on_gone(self, rank: int) -> None:
        """Reads the exit code of a rank on this machine before its parent reaps it, and sends it to the hub."""
        code = self._local_processes[rank].exit_code(_EXIT_CODE_TIMEOUT) if rank in self._local_processes else None
        if code is not None:
            self._channel.send("exit", of=rank, code=code)

    def _on_query(self, is_ending: bool) -> None:
        self.is_ending = self.is_ending or is_ending
        self._update_status()
        self._channel.send("status", status=self._status)

    def _on_acknowledged(self) -> None:
        """Does nothing: receiving any message shows that the hub responds."""

    def _on_ending(self) -> None:
        self.is_ending = True

    def _on_leaving(self) -> None:
        self._hosts.pop(0, None)
        self._may_leave.set()

    def _on_warning(self, line: str) -> None:
        self.warn(line)

    def _on_report(self, report: list[Any]) -> None:
        if self._is_running:
            self._end(FailureReport(*report))

    def _report_silence(self, status: RankStatus, text: str = "", code: int = 1) -> None:
        """Ends this rank because rank 0 does not respond. Each of the other ranks detects this on its own."""
        self._end(describe_silence(self._rank_0(), status, self._other_hosts(), text, code))

    def _rank_0(self) -> LostRank:
        return LostRank(0, self._hosts[0], self._processes[0][0])

    def _other_hosts(self) -> dict[int, str]:
        return {rank: host for rank, host in self._hosts.items() if rank}

    def _end(self, report: FailureReport) -> None:
        """Writes the report, prints it if this rank is the reporter of its machine, and ends the process."""
        self.is_ending, self.report = True, report
        text = report.text
        if self.path and os.path.isdir(os.path.dirname(self.path)):
            _append(self.path, f"{time.strftime('%Y/%m/%d %H:%M:%S')} - ERROR - {text}\n")
        if self.rank in report.reporters:
            with contextlib.suppress(OSError):  # stderr may be closed; the process must end anyway
                message = printable(self.wrap_text(f"error: {text}"))
                # Clears a progress display and shows the cursor, since os._exit skips its cleanup.
                has_display = os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb"
                clear = "\r\033[J\033[?25h" if has_display else ""
                os.write(2, f"{clear}{message}\n".encode())
        self._has_reported.set()
        if not self._has_left.wait(_EXIT_TIMEOUT):
            os._exit(report.code)


def _append(path: str, text: str) -> bool:
    with contextlib.suppress(OSError):
        with open(path, "a", encoding="utf-8") as file:
            file.write(printable(text))
        return True
    return False


def start(*, limit: float, inspect_stack: InspectStack) -> RankMonitor | None:
    """Starts the monitor of this rank, unless it is already running. Every rank must call it.

    Returns None for a single process, or if the hub cannot be reached.

    Args:
        limit: The number of seconds that a rank may wait for others.
        inspect_stack: See `RankMonitor`.
    """
    global _current
    if get_world_size() == 1 or (_current is not None and _current.group is dist.group.WORLD):
        return current()
    server = None
    if get_rank() == 0:
        has_both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if has_both else socket.AF_INET
        server = socket.create_server(("", 0), family=family, dualstack_ipv6=has_both, backlog=4096)
    address = (server.getsockname()[1], secrets.token_hex(16), socket.gethostname()) if server is not None else None
    port, token, host = broadcast_object(address)  # type: ignore[misc]  # not None on rank 0
    hub = None if server is None else Hub(server, token, get_world_size(), limit)
    if hub is not None:
        os.register_at_fork(after_in_child=hub.close)
        hub.start()
    addresses = [os.environ.get("MASTER_ADDR", "127.0.0.1"), host]
    channel = _connect(addresses, port)
    crash_channel = None if channel is None else _connect(addresses, port)
    if channel is None or crash_channel is None:
        return None
    monitor = _current = RankMonitor(channel, crash_channel, limit=limit, inspect_stack=inspect_stack)
    crash_channel.send("crashes", rank=monitor.rank, token=token)
    if hub is not None:
        hub.save_crash = monitor.save_crash
        hub.last_checkpoint = lambda: monitor.last_checkpoint()  # a run sets it later
    else:
        enable_crash_dump(crash_channel.fileno())
    process = os.getpid()
    channel.send(
        "hello", rank=monitor.rank, host=monitor.host, token=token, process=process, began=start_time_of(process)
    )
    monitor.start()
    # Otherwise a worker that outlives its rank keeps the connection open, and the death of the rank goes unnoticed.
    os.register_at_fork(after_in_child=monitor.close)
    atexit.register(monitor.done)
    multiprocessing.util.Finalize(None, monitor.done, exitpriority=0)  # multiprocessing does not run atexit handlers
    return monitor


def current() -> RankMonitor | None:
    """Returns the monitor of this rank, or None for a single process."""
    if _current is None or not dist.is_available() or not dist.is_initialized():
        return None
    return _current if _current.group is dist.group.WORLD else None


def _connect(addresses: list[str], port: int) -> Channel | None:
    """Returns a connection to the first address that accepts one, or None if none does."""
    for address in addresses:
        with contextlib.suppress(OSError):
            return Channel(socket.create_connection((address, port), _CONNECT_TIMEOUT))
    return None
