import errno
import os
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from footplate.distributed.channel import Channel
from footplate.distributed.failure_report import Failure, FailureReport, RankStatus
from footplate.distributed.hub import Hub


class Meeting:
    """A hub and the lines of some ranks to it, two of each."""

    def __init__(self, world: int, *, begun: bool = True) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.hub = Hub(self.server, "secret", world, 60.0)
        self.hub.start()
        self.lines, self.crashes = ([self.connect() for _ in range(world)] for _ in range(2))
        if begun:
            for rank in range(world):
                self.greet("crashes", rank)
                self.greet("hello", rank)
            self.is_told(world)

    def greet(self, kind: str, rank: int) -> None:
        if kind == "hello":
            self.lines[rank].send(kind, rank=rank, host="a", token="secret", process=40 + rank, began="7")
        else:
            self.crashes[rank].send(kind, rank=rank, token="secret")

    def is_told(self, world: int) -> None:
        for rank in range(world):
            assert self.hear(rank, "hosts") == {
                "hosts": {str(each): "a" for each in range(world)},
                "processes": {str(each): [40 + each, "7"] for each in range(world)},
            }

    def connect(self) -> Channel:
        connection = socket.create_connection(self.server.getsockname(), timeout=10)
        return Channel(connection)

    def hear(self, rank: int, kind: str) -> dict[str, Any]:
        """Returns the first message of a kind; what comes before it is passed over."""
        while True:
            messages = self.lines[rank].receive()
            assert messages is not None
            for message in messages:
                if message.pop("kind") == kind:
                    return message

    def close(self) -> None:
        for line, crashes in zip(self.lines, self.crashes, strict=True):
            line.send("done")
            line.close()
            crashes.close()

    def verdict(self, rank: int) -> FailureReport:
        return FailureReport(*self.hear(rank, "verdict")["verdict"])

    def fail(self, rank: int, text: str, *, follows: bool = False) -> None:
        failure = Failure(RankStatus(rank, "a", "forward pass", 4), text, 2, follows)
        self.lines[rank].send("failed", **{**failure._asdict(), "place": list(failure.place)})

    def place(self, rank: int, phase: str, *, waits: bool = False, seconds: float = 0.0) -> list[Any]:
        return list(RankStatus(rank, "a", phase, 4, waits, seconds))


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    found = Meeting(3)
    yield found
    found.close()


@pytest.mark.parametrize("last", [("hello", 0), ("crashes", 0), ("crashes", 1)])
def test_all_are_told_who_is_there_once_both_lines_of_all_are(last: tuple[str, int]) -> None:
    meeting = Meeting(2, begun=False)
    for kind in ("hello", "crashes"):
        for rank in range(2):
            if (kind, rank) != last:
                meeting.greet(kind, rank)
    assert select.select(meeting.lines, [], [], 0.1)[0] == []
    meeting.greet(*last)
    meeting.is_told(2)
    meeting.close()


def test_too_many_open_files_are_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = threading.Event()

    def accept(self: socket.socket) -> Any:
        reached.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", accept)
    with socket.create_server(("127.0.0.1", 0)) as server, caplog.at_level("WARNING"):
        Hub(server, "secret", 2, 60.0).start()
        connections = [socket.create_connection(server.getsockname()) for _ in range(2)]
        assert reached.wait(10.0)
        time.sleep(0.1)  # it listens no more
        assert [each.getMessage() for each in caplog.records] == [
            "some ranks are not monitored: too many open files; raise the limit with ulimit -n"
        ]
        for each in connections:
            each.close()


def test_the_first_error_is_told_to_all(meeting: Meeting) -> None:
    meeting.fail(1, "twelve")
    meeting.hear(2, "where")  # the hub has read it
    meeting.fail(2, "thirteen")
    for rank in range(3):
        verdict = meeting.verdict(rank)
        assert verdict.text == "rank 1 on a failed in iteration 4, forward pass: twelve"
        assert (verdict.code, verdict.ranks) == (2, [1])


def test_the_same_error_of_all_names_nobody(meeting: Meeting) -> None:
    for rank in range(3):
        meeting.fail(rank, "no such file")
    assert meeting.verdict(0).text == "no such file"


def test_an_error_that_may_follow_waits_for_its_cause(meeting: Meeting) -> None:
    meeting.fail(0, "connection reset", follows=True)
    meeting.lines[2].close()
    assert meeting.verdict(1).text.startswith("rank 2 on a died without an error message near iteration 4\n")


def test_who_died_of_what_and_where_it_was_seen_last(meeting: Meeting) -> None:
    meeting.lines[2].send("seen", place=meeting.place(2, "data loading"))
    meeting.fail(1, "connection reset", follows=True)
    meeting.hear(0, "where")  # the hub has read both
    meeting.lines[2].close()
    assert meeting.hear(0, "gone") == {"rank": 2}
    meeting.lines[0].send("exit", of=2, code=-11)
    verdict = meeting.verdict(0)
    first, process, last = verdict.text.splitlines()
    assert first == "rank 2 on a was killed by SIGSEGV near iteration 4"
    assert re.fullmatch(r"  process 42, 0\.\d s before: data loading of iteration 4", process)
    assert last == "  ranks 0, 1 ended with it"
    assert (verdict.code, verdict.ranks) == (139, [2])


def test_what_a_rank_says_in_a_crash_is_kept(meeting: Meeting) -> None:
    kept: list[tuple[int, str]] = []
    meeting.hub.keep = lambda rank, words: kept.append((rank, words)) or "rank_2.log"  # type: ignore[func-returns-value]
    words = (
        'Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n  File "my.py", line 3 in go\n'
    )
    meeting.lines[2].close()
    for piece in words.splitlines(keepends=True):  # it comes as it is written, and may come behind the end
        os.write(meeting.crashes[2].fileno(), piece.encode())
    meeting.crashes[2].close()
    meeting.hear(0, "gone")
    meeting.lines[0].send("exit", of=2, code=-6)
    lines = meeting.verdict(1).text.splitlines()
    assert (lines[1], lines[3]) == ("  at my.py:3, in go", "  stack trace: rank_2.log")
    assert kept == [(2, words)]


def test_an_error_behind_a_death_follows_from_it(meeting: Meeting) -> None:
    meeting.lines[2].close()
    meeting.hear(1, "gone")
    meeting.fail(1, "something broke")
    assert meeting.verdict(0).text.startswith("rank 2 on a died without an error message")


def test_the_first_of_several_deaths_stands_on_top(meeting: Meeting) -> None:
    meeting.lines[2].close()
    meeting.hear(0, "gone")
    meeting.lines[1].close()
    lines = meeting.verdict(0).text.splitlines()
    assert lines[0].startswith("rank 2 on a died")
    assert lines[-2:] == ["  rank 1 died too", "  rank 0 ended with them"]


def test_an_error_that_follows_from_nothing_counts(meeting: Meeting) -> None:
    meeting.fail(0, "no gradient", follows=True)
    assert meeting.verdict(1).text == "rank 0 on a failed in iteration 4, forward pass: no gradient"


def test_who_is_done_may_go(meeting: Meeting) -> None:
    meeting.lines[2].send("done")
    meeting.lines[2].close()
    meeting.fail(1, "twelve")
    assert meeting.verdict(0).ranks == [1]


def test_when_the_first_is_done_the_others_hear_it(meeting: Meeting) -> None:
    meeting.lines[0].send("done")
    assert [meeting.hear(rank, "leaving") for rank in range(3)] == [{}, {}, {}]


@pytest.mark.parametrize("over", [True, False])
def test_a_rank_that_waits_has_all_asked(meeting: Meeting, over: bool) -> None:
    meeting.lines[0].send("stuck", place=meeting.place(0, "backward pass", waits=True, seconds=60.0), over=over)
    for rank, phase, waits in ((0, "backward pass", True), (1, "backward pass", True), (2, "data loading", False)):
        assert meeting.hear(rank, "where") == {"ending": False}
        meeting.lines[rank].send("place", place=meeting.place(rank, phase, waits=waits, seconds=60.0))
    if over:
        assert meeting.verdict(2).text.startswith("ranks 0, 1 waited for rank 2 for 60 s\n")
    else:
        line = (
            "rank 2 on a: in data loading of iteration 4 for 60 s; ranks 0, 1: waiting in backward pass of iteration 4"
        )
        assert meeting.hear(0, "warning") == {"line": line}


def test_who_waits_for_too_long_is_answered_though_others_are_just_asked(meeting: Meeting) -> None:
    for rank in (0, 1):
        place = meeting.place(rank, "backward pass", waits=True, seconds=60.0)
        meeting.lines[rank].send("stuck", place=place, over=True)
        assert meeting.hear(rank, "heard") == {}


def test_who_does_not_answer_is_named(meeting: Meeting) -> None:
    meeting.lines[2].send("seen", place=meeting.place(2, "data loading"))
    meeting.lines[0].send("stuck", place=meeting.place(0, "backward pass", waits=True, seconds=60.0), over=True)
    for rank in (0, 1):
        meeting.hear(rank, "where")
        meeting.lines[rank].send("place", place=meeting.place(rank, "backward pass", waits=True, seconds=60.0))
    told = "  rank 2 on a, process 42, does not respond: it is gone, suspended or busy in native code, "
    line = meeting.verdict(0).text.splitlines()[1]
    assert line.startswith(told)
    assert line.endswith(" s before: data loading of iteration 4")


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b'{"kind": "failed"}\n',
        b'{"kind": "hello", "rank": 1, "token": "?"}\n',
        b'{"kind": "crashes", "rank": 1, "token": "?"}\n',
        b'{"kind": "hello", "rank": 1, "token": "\\u00fc\\ud800"}\n',
        b"\xff\n",
    ],
)
def test_strangers_are_not_heard(meeting: Meeting, said: bytes) -> None:
    with socket.create_connection(meeting.server.getsockname(), timeout=10) as stranger:
        stranger.sendall(said)
        assert stranger.recv(100) == b""
    meeting.fail(1, "twelve")
    assert meeting.verdict(0).ranks == [1]
