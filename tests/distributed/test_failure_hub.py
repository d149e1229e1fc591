import errno
import json
import os
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from footplate.distributed.failure_hub import Channel, Hub
from footplate.distributed.failure_report import Failure, FailureReport, RankStatus


class Ranks:
    """A hub and the two channels of each rank."""

    def __init__(self, world: int, *, connected: bool = True) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.hub = Hub(self.server, "secret", world, 60.0)
        self.hub.start()
        self.channels, self.crashes = ([self.connect() for _ in range(world)] for _ in range(2))
        if connected:
            for rank in range(world):
                self.connect_rank("crashes", rank)
                self.connect_rank("hello", rank)
            self.check_hosts(world)

    def connect_rank(self, kind: str, rank: int) -> None:
        if kind == "hello":
            self.channels[rank].send(kind, rank=rank, host="a", token="secret", process=40 + rank, began="7")
        else:
            self.crashes[rank].send(kind, rank=rank, token="secret")

    def check_hosts(self, world: int) -> None:
        for rank in range(world):
            assert self.receive(rank, "hosts") == {
                "hosts": {str(each): "a" for each in range(world)},
                "processes": {str(each): [40 + each, "7"] for each in range(world)},
            }

    def connect(self) -> Channel:
        connection = socket.create_connection(self.server.getsockname(), timeout=10)
        return Channel(connection)

    def receive(self, rank: int, kind: str) -> dict[str, Any]:
        """Returns the next message of a kind and skips others."""
        while True:
            messages = self.channels[rank].receive()
            assert messages is not None
            for message in messages:
                if message.pop("kind") == kind:
                    return message

    def close(self) -> None:
        for line, crashes in zip(self.channels, self.crashes, strict=True):
            line.send("done")
            line.close()
            crashes.close()

    def report(self, rank: int) -> FailureReport:
        return FailureReport(*self.receive(rank, "report")["report"])

    def fail(self, rank: int, text: str, *, may_be_consequence: bool = False) -> None:
        failure = Failure(RankStatus(rank, "a", "forward pass", 4), text, 2, may_be_consequence)
        self.channels[rank].send("failed", **{**failure._asdict(), "status": list(failure.status)})

    def status(self, rank: int, phase: str, *, is_waiting: bool = False, seconds: float = 0.0) -> list[Any]:
        return list(RankStatus(rank, "a", phase, 4, is_waiting, seconds))


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    found = Ranks(3)
    yield found
    found.close()


@pytest.mark.parametrize("last", [("hello", 0), ("crashes", 0), ("crashes", 1)])
def test_hosts_are_sent_when_all_ranks_are_connected(last: tuple[str, int]) -> None:
    ranks = Ranks(2, connected=False)
    for kind in ("hello", "crashes"):
        for rank in range(2):
            if (kind, rank) != last:
                ranks.connect_rank(kind, rank)
    assert select.select(ranks.channels, [], [], 0.1)[0] == []
    ranks.connect_rank(*last)
    ranks.check_hosts(2)
    ranks.close()


def test_too_many_open_files_is_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = threading.Event()

    def accept(self: socket.socket) -> Any:
        reached.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", accept)
    with socket.create_server(("127.0.0.1", 0)) as server, caplog.at_level("WARNING"):
        Hub(server, "secret", 2, 60.0).start()
        connections = [socket.create_connection(server.getsockname()) for _ in range(2)]
        assert reached.wait(10.0)
        time.sleep(0.1)  # the hub no longer accepts connections
        assert [each.getMessage() for each in caplog.records] == [
            "Some ranks are not monitored: too many open files. Raise the limit with ulimit -n."
        ]
        for each in connections:
            each.close()


def test_first_error_is_reported_to_all_ranks(ranks: Ranks) -> None:
    ranks.fail(1, "twelve")
    ranks.receive(2, "query")  # the hub has read it
    ranks.fail(2, "thirteen")
    for rank in range(3):
        report = ranks.report(rank)
        assert report.text == "rank 1 on a failed in iteration 4, forward pass: twelve"
        assert (report.code, report.ranks) == (2, [1])


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("twelve", "\n  the last checkpoint is iter_2.pth; use --resume to continue from it"),
        ("\n".join("abcdefgh"), ""),
    ],
)
def test_report_names_the_last_checkpoint_if_it_has_a_line_left(ranks: Ranks, text: str, added: str) -> None:
    ranks.hub.last_checkpoint = lambda: "iter_2.pth"
    ranks.fail(1, text)
    for rank in range(3):
        assert ranks.report(rank).text == f"rank 1 on a failed in iteration 4, forward pass: {text}{added}"


def test_same_error_on_all_ranks_names_no_rank(ranks: Ranks) -> None:
    for rank in range(3):
        ranks.fail(rank, "no such file")
    assert ranks.report(0).text == "no such file"


def test_possible_consequence_waits_for_its_cause(ranks: Ranks) -> None:
    ranks.fail(0, "connection reset", may_be_consequence=True)
    ranks.channels[2].close()
    assert ranks.report(1).text.startswith("rank 2 on a died without an error message near iteration 4\n")


def test_death_is_reported_with_exit_code_and_last_status(ranks: Ranks) -> None:
    ranks.channels[2].send("moved", status=ranks.status(2, "data loading"))
    ranks.fail(1, "connection reset", may_be_consequence=True)
    ranks.receive(0, "query")  # the hub has read both
    ranks.channels[2].close()
    assert ranks.receive(0, "gone") == {"rank": 2}
    ranks.channels[0].send("exit", of=2, code=-11)
    report = ranks.report(0)
    first, process, last = report.text.splitlines()
    assert first == "rank 2 on a was killed by SIGSEGV near iteration 4"
    assert re.fullmatch(r"  process 42, last seen 0\.\d s earlier: data loading of iteration 4", process)
    assert last == "  ranks 0, 1 stopped because of it"
    assert (report.code, report.ranks) == (139, [2])


def test_crash_dump_is_saved(ranks: Ranks) -> None:
    kept: list[tuple[int, str]] = []
    ranks.hub.save_crash = lambda rank, dump: kept.append((rank, dump)) or "rank_2.log"  # type: ignore[func-returns-value]
    dump = 'Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n  File "my.py", line 3 in go\n'
    ranks.channels[2].close()
    for piece in dump.splitlines(
        keepends=True
    ):  # the dump arrives in pieces, possibly after the other channel is closed
        os.write(ranks.crashes[2].fileno(), piece.encode())
    ranks.crashes[2].close()
    ranks.receive(0, "gone")
    ranks.channels[0].send("exit", of=2, code=-6)
    lines = ranks.report(1).text.splitlines()
    assert (lines[1], lines[3]) == ("  at my.py:3, in go", "  stack trace: rank_2.log")
    assert kept == [(2, dump)]


def test_error_after_death_is_a_consequence(ranks: Ranks) -> None:
    ranks.channels[2].close()
    ranks.receive(1, "gone")
    ranks.fail(1, "something broke")
    assert ranks.report(0).text.startswith("rank 2 on a died without an error message")


def test_first_of_several_deaths_is_reported(ranks: Ranks) -> None:
    ranks.channels[2].close()
    ranks.receive(0, "gone")
    ranks.channels[1].close()
    lines = ranks.report(0).text.splitlines()
    assert lines[0].startswith("rank 2 on a died")
    assert lines[-2:] == ["  rank 1 died too", "  rank 0 stopped because of them"]


def test_possible_consequence_without_cause_is_reported(ranks: Ranks) -> None:
    ranks.fail(0, "no gradient", may_be_consequence=True)
    assert ranks.report(1).text == "rank 0 on a failed in iteration 4, forward pass: no gradient"


def test_disconnect_after_done_is_no_death(ranks: Ranks) -> None:
    ranks.channels[2].send("done")
    ranks.channels[2].close()
    ranks.fail(1, "twelve")
    assert ranks.report(0).ranks == [1]


def test_all_ranks_are_notified_when_rank_0_is_done(ranks: Ranks) -> None:
    ranks.channels[0].send("done")
    assert [ranks.receive(rank, "leaving") for rank in range(3)] == [{}, {}, {}]


@pytest.mark.parametrize("has_timeout", [True, False])
def test_waiting_rank_makes_hub_query_all(ranks: Ranks, has_timeout: bool) -> None:
    ranks.channels[0].send(
        "waiting", status=ranks.status(0, "backward pass", is_waiting=True, seconds=60.0), has_timeout=has_timeout
    )
    for rank, phase, waits in ((0, "backward pass", True), (1, "backward pass", True), (2, "data loading", False)):
        assert ranks.receive(rank, "query") == {"is_ending": False}
        ranks.channels[rank].send("status", status=ranks.status(rank, phase, is_waiting=waits, seconds=60.0))
    if has_timeout:
        assert ranks.report(2).text.startswith("ranks 0, 1 waited for rank 2 for 60 s\n")
    else:
        line = (
            "rank 2 on a: in data loading of iteration 4 for 60 s; ranks 0, 1: waiting in backward pass of iteration 4"
        )
        assert ranks.receive(0, "warning") == {"line": line}


def test_waiting_rank_is_acknowledged_during_query(ranks: Ranks) -> None:
    for rank in (0, 1):
        status = ranks.status(rank, "backward pass", is_waiting=True, seconds=60.0)
        ranks.channels[rank].send("waiting", status=status, has_timeout=True)
        assert ranks.receive(rank, "acknowledged") == {}


def test_silent_rank_is_reported(ranks: Ranks) -> None:
    ranks.channels[2].send("moved", status=ranks.status(2, "data loading"))
    ranks.channels[0].send(
        "waiting", status=ranks.status(0, "backward pass", is_waiting=True, seconds=60.0), has_timeout=True
    )
    for rank in (0, 1):
        ranks.receive(rank, "query")
        ranks.channels[rank].send("status", status=ranks.status(rank, "backward pass", is_waiting=True, seconds=60.0))
    expected = "  rank 2 on a, process 42, does not respond: it is gone, suspended or busy in native code, last seen "
    line = ranks.report(0).text.splitlines()[1]
    assert line.startswith(expected)
    assert line.endswith(" s earlier: data loading of iteration 4")


@pytest.mark.parametrize(
    "data",
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
def test_unauthenticated_clients_are_rejected(ranks: Ranks, data: bytes) -> None:
    with socket.create_connection(ranks.server.getsockname(), timeout=10) as stranger:
        stranger.sendall(data)
        assert stranger.recv(100) == b""
    ranks.fail(1, "twelve")
    assert ranks.report(0).ranks == [1]


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    """Returns a channel and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname(), timeout=10)
        other = server.accept()[0]
    channel = Channel(connection)
    yield channel, other
    channel.close()
    other.close()


def test_message_is_one_json_line(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    channel.send("where", ending=True, text="two\nlines")
    assert other.recv(1000) == b'{"kind": "where", "ending": true, "text": "two\\nlines"}\n'


def test_partial_messages_are_joined(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    found = []
    for piece in (b'{"kind": "a"}\n{"ki', b'nd": "b", "n"', b": 3}\n"):
        other.sendall(piece)
        found.append(channel.receive())
    assert found == [[{"kind": "a"}], [], [{"kind": "b", "n": 3}]]


def test_send_is_thread_safe(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    threads = [
        threading.Thread(target=channel.send, args=("text",), kwargs={"text": str(n) * 60_000}) for n in range(8)
    ]
    for each in threads:
        each.start()
    received = b""
    while received.count(b"\n") < len(threads):
        received += other.recv(1 << 16)
    assert sorted(json.loads(each)["text"][0] for each in received.splitlines()) == list("01234567")


@pytest.mark.parametrize("data", [b"hello\n", b"[1]\n", b'{"no": "kind"}\n', b"\xff\xfe\n", b"x" * (1 << 20)])
def test_invalid_message_ends_connection(ends: tuple[Channel, socket.socket], data: bytes) -> None:
    channel, other = ends
    sender = threading.Thread(target=other.sendall, args=(data,))
    sender.start()
    found: object = []
    while found == []:
        found = channel.receive()
    sender.join()
    assert found is None


def test_send_after_end_is_ignored(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.close()
    assert channel.receive() is None
    for _ in range(3):
        channel.send("place", place=[])


def test_text_after_message_is_kept(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b'{"kind": "crashes"}\nFatal Python error\n\nCurrent')
    assert channel.receive() == [{"kind": "crashes"}]
    other.sendall(b" thread")
    other.close()
    assert channel.read_text(10.0) == "Fatal Python error\n\nCurrent thread"


def test_read_text_returns_all_text_until_the_end(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b"Fatal ")
    other.sendall(b"Python error\n\xff")
    other.close()
    assert channel.read_text(10.0) == "Fatal Python error\n\ufffd"


def test_read_text_ends_after_idle_time(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(b"Fatal")
    assert channel.read_text(0.05) == "Fatal"


def test_closed_channel_has_no_descriptor(ends: tuple[Channel, socket.socket]) -> None:
    channel, _ = ends
    os.fstat(channel.fileno())
    channel.close()
    assert channel.fileno() == -1
