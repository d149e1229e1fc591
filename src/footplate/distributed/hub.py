"""The place on the first rank where the others tell how they are."""

import errno
import hmac
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from footplate.distributed.channel import Channel
from footplate.distributed.exit_status import disable_crash_dump, enable_crash_dump, innermost_user_line
from footplate.distributed.failure_report import (
    Failure,
    FailureReport,
    LostRank,
    RankStatus,
    describe_waiting,
    report_death,
    report_failure,
    report_timeout,
)

_TO_BE_ALIKE = 0.3  # seconds in which others may say the same
_TO_DIE = 0.5  # seconds for others to tell where they are, and how it ended
_TO_FOLLOW = 2.0  # seconds in which the cause of an error that may only follow from another comes
_TO_ANSWER = 1.0
_TO_SAY = 0.2  # seconds between the end of a connection and that of the other one
_TICK = 0.05
_logger = logging.getLogger("footplate.distributed")
_OF_HELLO = ("rank", "host", "process", "began")


class Hub(threading.Thread):
    """Listens to all ranks, and tells all of them once why they end.

    A rank whose connection ends while it is at work has died: the operating system closes what a process leaves
    open. An error that may only follow from what happened elsewhere waits a moment for its cause.

    Args:
        server: A socket that listens.
        token: What those who may speak know.
        world: How many ranks there are.
        limit: The seconds that a rank may wait for others.

    Attributes:
        keep: Keeps the stack of a rank that crashed, and returns the file where it is, or "".
    """

    def __init__(self, server: socket.socket, token: str, world: int, limit: float) -> None:
        super().__init__(name="footplate-hub", daemon=True)
        self.keep: Callable[[int, str], str] = lambda rank, words: ""
        self._server, self._token, self._world, self._limit = server, token, world, limit
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ)
        self._lines: dict[int, Channel] = {}
        self._crashes: dict[int, Channel] = {}  # where ranks write their stack, and nobody anything else
        self._hosts: dict[int, str] = {}
        self._processes: dict[int, tuple[int, str]] = {}
        self._seen: dict[int, tuple[RankStatus, float]] = {}
        self._at_work: set[int] = set()
        self._failures: list[Failure] = []
        self._dead: dict[int, LostRank] = {}
        self._places: dict[int, RankStatus] = {}
        self._until: float | None = None
        self._stuck = False
        self._quiet_until = 0.0
        self._decided = False

    def run(self) -> None:
        """Listens until the process ends."""
        while True:
            for key, _ in self._selector.select(_TICK if self._until is not None else None):
                if key.fileobj is self._server:
                    self._accept()
                else:
                    self._hear(key.fileobj, key.data)  # type: ignore[arg-type]  # what was registered above
            if self._until is not None and (time.monotonic() >= self._until or self._all_answered()):
                self._conclude()

    def close(self) -> None:
        """Closes, in a process that was forked from this one, what is not its own."""
        self._server.close()
        for line in [*self._lines.values(), *self._crashes.values()]:
            line.close()

    def _accept(self) -> None:
        try:
            self._selector.register(Channel(self._server.accept()[0]), selectors.EVENT_READ)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # else it is gone again
                self._selector.unregister(self._server)
                _logger.warning("some ranks are not monitored: too many open files; raise the limit with ulimit -n")

    def _hear(self, line: Channel, rank: int | None) -> None:
        messages = line.receive()
        if messages is None:
            self._selector.unregister(line)
            line.close()
            if rank is not None:
                self._gone(rank, self._last_words(rank))
            return
        for message in messages:
            if rank is not None:
                getattr(self, f"_on_{message.pop('kind')}")(rank, **message)
            elif message.get("kind") == "hello" and self._is_known(message.get("token")):
                rank = self._welcome(line, **{name: message[name] for name in _OF_HELLO})
            elif message.get("kind") == "crashes" and self._is_known(message.get("token")):
                self._selector.unregister(line)
                self._crashes[message["rank"]] = line
                self._begin()
            else:
                self._selector.unregister(line)
                line.close()
                return

    def _is_known(self, token: Any) -> bool:
        return hmac.compare_digest(str(token).encode(errors="replace"), self._token.encode())

    def _welcome(self, line: Channel, rank: int, host: str, process: int, began: str) -> int:
        self._selector.modify(line, selectors.EVENT_READ, rank)
        self._lines[rank], self._hosts[rank], self._processes[rank] = line, host, (process, began)
        self._at_work.add(rank)
        self._begin()
        return rank

    def _begin(self) -> None:
        if len(self._lines) == len(self._crashes) == self._world:
            self._tell("hosts", hosts=self._hosts, processes=self._processes)
            enable_crash_dump(self._crashes[1].fileno())  # of the one that tells of this process when it is gone

    def _on_begin(self, rank: int) -> None:
        self._at_work.add(rank)

    def _on_done(self, rank: int) -> None:
        self._at_work.discard(rank)
        if rank == 0:
            self._tell("leaving")

    def _on_failed(self, rank: int, place: Any, **content: Any) -> None:
        failure = Failure(place=RankStatus(*place), **content)
        if self._dead:
            failure = failure._replace(follows=True)
        self._failures.append(failure)
        self._places[rank] = failure.place
        self._decide_within(_TO_FOLLOW if failure.follows else _TO_BE_ALIKE)

    def _on_stuck(self, rank: int, place: Any, over: bool) -> None:
        self._stuck = self._stuck or over
        self._lines[rank].send("heard")  # where all wait at one place nothing else may come
        self._places[rank] = RankStatus(*place)
        self._decide_within(_TO_ANSWER)

    def _on_place(self, rank: int, place: Any) -> None:
        self._places[rank] = RankStatus(*place)

    def _on_seen(self, rank: int, place: Any) -> None:
        self._seen[rank] = RankStatus(*place), time.monotonic()

    def _on_exit(self, rank: int, of: int, code: int) -> None:
        if of in self._dead:
            self._dead[of] = self._dead[of]._replace(ending=code)

    def _last_words(self, rank: int) -> str:
        line = self._crashes.pop(rank, None)
        if line is None:
            return ""
        words = line.last_words(_TO_SAY)
        disable_crash_dump(line.fileno())
        line.close()
        return words

    def _gone(self, rank: int, words: str) -> None:
        host = self._hosts[rank]
        del self._lines[rank], self._hosts[rank]
        self._places.pop(rank, None)
        if rank not in self._at_work or self._failed(rank):
            return
        death = self._lost(rank, host)
        if words:
            death = death._replace(line=innermost_user_line(words), log=self.keep(rank, words))
        self._dead[rank] = death
        self._tell("gone", rank=rank)
        self._decide_within(_TO_DIE)

    def _lost(self, rank: int, host: str = "") -> LostRank:
        lost = LostRank(rank, host or self._hosts[rank], self._processes[rank][0])
        if rank in self._seen:
            place, when = self._seen[rank]
            lost = lost._replace(seen=place, ago=time.monotonic() - when)
        return lost

    def _decide_within(self, seconds: float) -> None:
        """Asks all where they are, and concludes after that time at the latest."""
        if self._decided:
            return
        until = time.monotonic() + seconds
        if self._until is None:
            self._places = {rank: place for rank, place in self._places.items() if self._failed(rank)}
            self._tell("where", ending=bool(self._failures or self._dead))
        elif self._failures or self._dead:
            self._tell("ending")
        self._until = until if self._until is None else min(until, self._until)

    def _all_answered(self) -> bool:
        known = all(each.ending is not None for each in self._dead.values())
        return not self._failures and known and self._places.keys() >= self._lines.keys()

    def _failed(self, rank: int) -> bool:
        return any(each.place.rank == rank for each in self._failures)

    def _conclude(self) -> None:
        self._until = None
        places = [place for _, place in sorted(self._places.items())]
        verdict = self._verdict(places)
        if verdict is not None:
            self._decided = True
            self._tell("verdict", verdict=verdict)
        else:
            waited = max((each.seconds for each in places), default=0.0)
            line, now = describe_waiting(places, waited), time.monotonic()
            if line and now >= self._quiet_until and 0 in self._lines:
                self._lines[0].send("warning", line=line)
                self._quiet_until = now + waited / 2  # each of those that wait has asked
        self._stuck = False

    def _verdict(self, places: list[RankStatus]) -> FailureReport | None:
        first = next((each for each in self._failures if not each.follows), None)
        if first is not None:
            alike = [each.place.rank for each in self._failures if each.text == first.text]
            return report_failure(first, alike, self._world, self._hosts)
        if self._dead:
            return report_death([*self._dead.values()], places, self._hosts)
        silent = [self._lost(rank) for rank in sorted(self._lines) if rank not in self._places]
        waited = max((each.seconds for each in places if each.waits), default=0.0)
        late = [each for each in places if not each.waits]
        apart = bool(late or silent) or len({str(each) for each in places}) > 1
        if apart and (self._stuck or (self._failures and waited > self._limit / 2)):
            return report_timeout(places, waited, silent, self._hosts)
        if self._failures:
            first = self._failures[0]
            alike = [each.place.rank for each in self._failures if each.text == first.text]
            return report_failure(first, alike, self._world, self._hosts)
        return None

    def _tell(self, kind: str, **content: Any) -> None:
        """Tells all, this rank last: when it hears it, it is on its way to the others."""
        for rank in sorted(self._lines, reverse=True):
            self._lines[rank].send(kind, **content)


def parse_hosts(told: Mapping[str, str]) -> dict[int, str]:
    """Returns machines by rank from what came as JSON."""
    return {int(rank): host for rank, host in told.items()}
