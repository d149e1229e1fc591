"""Each rank's own watch: it tells the others when this one fails, and ends this one when another did.

Nothing of it is in the training loop. A thread beside it looks once a second at the stack of the main thread, and
sends nothing as long as that moves on.
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

from footplate.distributed.channel import Channel
from footplate.distributed.collectives import broadcast_object, get_rank, get_world_size
from footplate.distributed.exit_status import (
    LocalProcess,
    disable_crash_dump,
    enable_crash_dump,
    indicates_lost_rank,
    innermost_user_line,
    start_time_of,
)
from footplate.distributed.failure_report import (
    MAX_LINES,
    Failure,
    FailureReport,
    LostRank,
    RankStatus,
    report_death,
    report_silence,
)
from footplate.distributed.hub import Hub, parse_hosts
from footplate.errors import RankError
from footplate.messages import printable

_TO_JOIN = 10.0
_TO_LEAVE = 2.0  # seconds that the main thread has to come to its end by itself
_TO_BE_JUDGED = 8.0
_TO_ANSWER = 3.0
_FIRST_WARNING = 30.0
_TO_BE_HEARD = 1.0
_TO_END = 0.3  # seconds between the end of a connection and that of the process
_A_SECOND = 64  # ranks that tell the hub each second where they are

Stack = list[tuple[FrameType, int]]
Look = Callable[[Stack], tuple[str, bool, str]]
_current: "RankMonitor | None" = None


class RankMonitor(threading.Thread):
    """Tells the others how this rank is, and this rank how the others are.

    Args:
        line: The connection to the hub.
        crashes: Another one, on which a process that crashes writes its stack, and nobody anything else: of a
            connection that ends with a message unread, what was still to be sent is lost.
        limit: The seconds that a rank may wait for others.
        look: Tells of a stack, frames and their lines with the outermost first, what it is at, whether that waits for
            others, and the line of code.
    """

    def __init__(self, line: Channel, crashes: Channel, *, limit: float, look: Look) -> None:
        super().__init__(name="footplate-watch", daemon=True)
        self.group = dist.group.WORLD
        self.rank, self.world, self.host = get_rank(), get_world_size(), socket.gethostname()
        self.verdict: FailureReport | None = None
        self.ending = False
        self.iteration: Callable[[], int | None] = lambda: None
        self.path = ""
        self.warn: Callable[[str], None] = lambda text: None
        self.saved: Callable[[], str] = lambda: ""
        self.fold: Callable[[str], str] = lambda text: text  # as wide as the screen
        self._line, self._crashes, self._limit, self._look = line, crashes, limit, look
        self._main = threading.main_thread().ident
        self._hosts: dict[int, str] = {}
        self._neighbours: dict[int, LocalProcess] = {}
        self._processes: dict[int, tuple[int, str]] = {}
        self._told, self._told_at = RankStatus(self.rank, self.host), 0.0
        self._here, self._since = RankStatus(self.rank, self.host), time.monotonic()
        self._next_warning = min(_FIRST_WARNING, limit / 2)
        self._at_work, self._judged, self._left, self._acknowledged = True, *(threading.Event() for _ in range(3))
        self._over, self._over_at = False, float("inf")

    @property
    def at_work(self) -> bool:
        """Checks whether the others wait for this rank."""
        return self._at_work

    def begin(self) -> None:
        """Tells that this rank is at work: if its process ends now it has died."""
        self._at_work = True
        self._acknowledged.clear()
        self._line.send("begin")

    def done(self) -> None:
        """Tells that this rank has come to an end that it may come to."""
        if not self._at_work:
            return
        self._at_work = False
        self._line.send("done")
        if self.rank == 0:
            self._acknowledged.wait(_TO_BE_HEARD)  # the others know then that the hub may go

    def fail(self, error: BaseException, text: str, code: int, *, log: str = "") -> FailureReport:
        """Tells that an error ends this rank, and returns why all end, said already.

        Args:
            error: The error.
            text: What it says.
            code: The exit code that it asks for.
            log: The file that holds the traceback.
        """
        self.ending, place = True, self._place_of(error)
        follows = (place.waits or indicates_lost_rank(error)) and not isinstance(error, RankError)
        if self.verdict is None:
            failure = Failure(place, text, code, follows=follows, log=log)
            if not failure.follows:
                get_error_handler().record_exception(error)
            self._line.send("failed", **{**failure._asdict(), "place": list(place)})
            self._judged.wait(_TO_BE_JUDGED)
        self._left.set()
        if self.verdict is None and 0 in self._hosts and self.rank:
            self._tell_of_silence(place, text, 1 if follows else code)
        return self.verdict or FailureReport(text, code, [self.rank], [self.rank])

    def leave_out(self) -> None:
        """Closes, in a process that was forked from this one, what is not its own."""
        self._at_work = False
        disable_crash_dump()
        self._line.close()
        self._crashes.close()
        for each in list(self._neighbours.values()):
            each.close()

    def keep(self, rank: int, words: str) -> str:
        """Keeps the stack of a rank that crashed in its own file; returns the file, "" where there is no folder."""
        path = os.path.join(os.path.dirname(self.path), f"rank_{rank}.log")
        return path if self.path and _append(path, words) else ""

    def run(self) -> None:
        """Watches until the process ends."""
        tick = min(1.0, self._limit / 20)
        while True:
            if select([self._line], [], [], tick)[0]:
                messages = self._line.receive()
                if messages is None:
                    self._lost_hub()
                    return
                self._over_at = float("inf")  # it answers
                for message in messages:
                    getattr(self, f"_on_{message.pop('kind')}")(**message)
            self._look_around()

    def _look_around(self) -> None:
        """Notes where the main thread is; tells if it has waited for long."""
        frame = sys._current_frames().get(self._main or 0)
        if frame is None or self.verdict is not None:
            return
        phase, waits, line = self._look([*walk_stack(frame)][::-1])
        here = RankStatus(self.rank, self.host, phase, self.iteration(), waits, 0.0, line)
        now = time.monotonic()
        if (here.phase, here.iteration) != (self._here.phase, self._here.iteration):
            self._since, self._next_warning, self._over = now, min(_FIRST_WARNING, self._limit / 2), False
        self._here = here._replace(seconds=now - self._since)
        self._tell_where(now)
        if not (waits and self._at_work) or self.ending:
            return
        if now - self._over_at > _TO_ANSWER and self.rank and 0 in self._hosts:
            self._tell_of_silence(self._here)
        elif self._here.seconds >= self._limit and not self._over:
            self._over, self._over_at = True, now
            self._line.send("stuck", place=list(self._here), over=True)
        elif self._here.seconds >= self._next_warning:
            self._next_warning *= 2
            self._line.send("stuck", place=list(self._here), over=False)

    def _tell_where(self, now: float) -> None:
        """Lets the hub know where this rank was seen last, should it die; seldom where there are many."""
        moved = (self._here.phase, self._here.iteration) != (self._told.phase, self._told.iteration)
        if moved and self._at_work and now - self._told_at >= max(1.0, self.world / _A_SECOND):
            self._told, self._told_at = self._here, now
            self._line.send("seen", place=list(self._here))

    def _place_of(self, error: BaseException) -> RankStatus:
        stack, seen = [*walk_tb(error.__traceback__)], [error]
        behind = error.__cause__
        while behind is not None and behind not in seen:  # where it came from: who names it may stand far above
            stack += walk_tb(behind.__traceback__)
            seen.append(behind)
            behind = behind.__cause__
        phase, waits, line = self._look(stack)
        waited = time.monotonic() - self._since
        return RankStatus(self.rank, self.host, phase, self.iteration(), waits, waited, line)

    def _on_hosts(self, hosts: dict[str, str], processes: dict[str, Any]) -> None:
        self._hosts = parse_hosts(hosts)
        self._processes = {int(rank): (process, began) for rank, (process, began) in processes.items()}
        for rank, host in self._hosts.items():
            if host == self.host and rank != self.rank:
                self._neighbours[rank] = LocalProcess(*self._processes[rank])

    def _on_gone(self, rank: int) -> None:
        """Looks how a rank of this machine ended, before whoever started it has taken it away."""
        code = self._neighbours[rank].ending(_TO_END) if rank in self._neighbours else None
        if code is not None:
            self._line.send("exit", of=rank, code=code)

    def _on_where(self, ending: bool) -> None:
        self.ending = self.ending or ending
        self._look_around()
        self._line.send("place", place=list(self._here))

    def _on_heard(self) -> None:
        """Is answered, which is enough."""

    def _on_ending(self) -> None:
        self.ending = True

    def _on_leaving(self) -> None:
        self._hosts.pop(0, None)
        self._acknowledged.set()

    def _on_warning(self, line: str) -> None:
        self.warn(line)

    def _on_verdict(self, verdict: list[Any]) -> None:
        if self._at_work:
            self._judge(FailureReport(*verdict))

    def _lost_hub(self) -> None:
        if self._at_work and self.verdict is None and 0 in self._hosts:
            others = {rank: host for rank, host in self._hosts.items() if rank}
            death, words = LostRank(0, self._hosts[0], self._processes[0][0]), self._crashes.last_words(_TO_END)
            if 0 in self._neighbours:
                death = death._replace(ending=self._neighbours[0].ending(_TO_END))
            if words:
                death = death._replace(line=innermost_user_line(words), log=self.keep(0, words))
            self._look_around()
            self._judge(report_death([death], [self._here], others))

    def _tell_of_silence(self, place: RankStatus, text: str = "", code: int = 1) -> None:
        """Ends this rank for a first one that does not answer; the others come to that by themselves."""
        others = {rank: host for rank, host in self._hosts.items() if rank}
        self._judge(report_silence(LostRank(0, self._hosts[0], self._processes[0][0]), place, others, text, code))

    def _judge(self, verdict: FailureReport) -> None:
        """Says why all end, and sees to it that this process does."""
        self.ending, self.verdict = True, verdict
        text, saved = verdict.text, self.saved()
        if saved and "the last checkpoint is" not in text and text.count("\n") < MAX_LINES - 1:
            text += f"\n  the last checkpoint is {saved}; --resume goes on there"
        self._write(text)
        if self.rank in verdict.speakers:
            with contextlib.suppress(OSError):  # nobody reads it any more: the process has to end all the same
                words = printable(self.fold(f"error: {text}"))
                os.write(2, f"{_off_the_screen()}{words}\n".encode())
        self._judged.set()
        if not self._left.wait(_TO_LEAVE):
            os._exit(verdict.code)

    def _write(self, text: str) -> None:
        """Adds to the rank's own file, if there is a folder for it."""
        if self.path and os.path.isdir(os.path.dirname(self.path)):
            _append(self.path, f"{time.strftime('%Y/%m/%d %H:%M:%S')} - ERROR - {text}\n")


def _off_the_screen() -> str:
    """What takes a live display off a terminal and gives the cursor back, since a rank that is ended cannot."""
    return "\r\033[J\033[?25h" if os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb" else ""


def _append(path: str, text: str) -> bool:
    with contextlib.suppress(OSError):
        with open(path, "a", encoding="utf-8") as file:
            file.write(printable(text))
        return True
    return False


def start(*, limit: float, look: Look) -> RankMonitor | None:
    """Starts the watch of this rank, once; each rank calls it. None for a process that is alone.

    Args:
        limit: The seconds that a rank may wait for others.
        look: Tells of a stack what it is at, whether that waits for others, and the line of code.
    """
    global _current
    if get_world_size() == 1 or (_current is not None and _current.group is dist.group.WORLD):
        return current()
    server = _listening() if get_rank() == 0 else None
    told = (server.getsockname()[1], secrets.token_hex(16), socket.gethostname()) if server is not None else None
    port, token, host = broadcast_object(told)  # type: ignore[misc]  # of rank 0, where there is a server
    hub = None if server is None else Hub(server, token, get_world_size(), limit)
    if hub is not None:
        os.register_at_fork(after_in_child=hub.close)
        hub.start()
    lines = _connected([os.environ.get("MASTER_ADDR", "127.0.0.1"), host], port)
    if lines is None:
        return None
    line, crashes = lines
    _current = RankMonitor(line, crashes, limit=limit, look=look)
    crashes.send("crashes", rank=_current.rank, token=token)
    if hub is not None:
        hub.keep = _current.keep
    else:
        enable_crash_dump(crashes.fileno())
    process = os.getpid()
    line.send(
        "hello", rank=_current.rank, host=_current.host, token=token, process=process, began=start_time_of(process)
    )
    _current.start()
    # A worker that outlives its rank would keep the connection open, and nobody would know that the rank is gone.
    os.register_at_fork(after_in_child=_current.leave_out)
    atexit.register(_current.done)
    multiprocessing.util.Finalize(None, _current.done, exitpriority=0)  # processes of multiprocessing know no atexit
    return _current


def current() -> RankMonitor | None:
    """Returns the watch of this rank, or None for a process that is alone."""
    if _current is None or not dist.is_available() or not dist.is_initialized():
        return None
    return _current if _current.group is dist.group.WORLD else None


def _listening() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    return socket.create_server(("", 0), backlog=4096)


def _connected(addresses: list[str], port: int) -> tuple[Channel, Channel] | None:
    for address in addresses:
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            sockets = [opened.enter_context(socket.create_connection((address, port), _TO_JOIN)) for _ in range(2)]
            opened.pop_all()
            return Channel(sockets[0]), Channel(sockets[1])
    return None
