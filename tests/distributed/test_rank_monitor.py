import json
import os
import pty
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from footplate.distributed import rank_monitor
from footplate.distributed.failure_hub import Channel
from footplate.distributed.failure_report import FailureReport, start_time_of
from footplate.distributed.rank_monitor import RankMonitor
from footplate.errors import RankError
from tests.faults.processes import end, fork

_Status = tuple[str, bool, str]


class FakeHub:
    """The hub's ends of the connections of a monitor."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.channel, self.crash_channel = (
                Channel(socket.create_connection(server.getsockname())) for _ in range(2)
            )
            self._end, self._crashes_end = (server.accept()[0] for _ in range(2))
        self._end.settimeout(10)
        self._file = self._end.makefile("rb")

    def receive(self, kind: str) -> dict[str, Any]:
        """Returns the next message of a kind and skips others."""
        while True:
            message: dict[str, Any] = json.loads(self._file.readline())
            if message.pop("kind") == kind:
                return message

    def send(self, kind: str, **content: Any) -> None:
        self._end.sendall(json.dumps({"kind": kind, **content}).encode() + b"\n")

    def is_silent(self, seconds: float) -> bool:
        return not select.select([self._end], [], [], seconds)[0]

    def close(self) -> None:
        self._file.close()
        self._end.close()  # may be called twice
        self._crashes_end.close()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    found = FakeHub()
    yield found
    found.close()
    for each in threading.enumerate():
        if isinstance(each, RankMonitor):
            each.join(10)
    found.channel.close()
    found.crash_channel.close()


def _start_monitor(
    hub: FakeHub, place: _Status = ("backward pass", True, "my.py:3"), limit: float = 60.0, sent_at: float = 0.0
) -> RankMonitor:
    """Starts a monitor of rank 1 whose main thread has the given status, last sent at `sent_at`."""
    mine = RankMonitor(hub.channel, hub.crash_channel, limit=limit, inspect_stack=lambda stack: place)
    mine.rank, mine.host, mine.iteration, mine._sent_at = 1, "a", lambda: 4, sent_at
    mine.start()
    return mine


def test_waiting_rank_notifies_hub(hub: FakeHub) -> None:
    mine = _start_monitor(hub, limit=0.4)
    assert hub.receive("waiting")["has_timeout"] is False
    message = hub.receive("waiting")
    assert message["has_timeout"] is True
    rank, _, phase, iteration, waits, seconds, line = message["status"]
    assert (rank, phase, iteration, waits, line) == (1, "backward pass", 4, True, "my.py:3")
    assert 0.4 <= seconds < 5
    assert (
        hub.receive("waiting")["has_timeout"] is False
    )  # the timeout is sent once; then warnings at growing intervals
    mine.done()


@pytest.mark.parametrize("done", [True, False])
def test_busy_rank_sends_nothing(hub: FakeHub, done: bool) -> None:
    place: _Status = ("backward pass", True, "") if done else ("data loading", False, "")
    mine = _start_monitor(hub, place, limit=0.2, sent_at=float("inf"))
    if done:
        mine.done()
        assert hub.receive("done") == {}
    assert hub.is_silent(0.5)
    mine.done()


def test_changed_status_is_sent_at_most_once_a_second(hub: FakeHub) -> None:
    places: list[_Status] = [("data loading", False, "a.py:1")]
    mine = RankMonitor(hub.channel, hub.crash_channel, limit=2.0, inspect_stack=lambda stack: places[0])
    mine.start()
    assert hub.receive("moved")["status"][2] == "data loading"
    assert hub.is_silent(0.5)
    places[0] = ("forward pass", False, "b.py:2")
    sent_at = mine._sent_at
    assert hub.receive("moved")["status"][2] == "forward pass"
    assert mine._sent_at - sent_at >= 1.0  # at most once a second
    mine.done()


def test_query_returns_status(hub: FakeHub) -> None:
    mine = _start_monitor(hub, ("data loading", False, "my.py:3"))
    hub.send("query", is_ending=False)
    assert hub.receive("status")["status"][2:5] == ["data loading", 4, False]
    assert not mine.is_ending
    hub.send("query", is_ending=True)
    hub.receive("status")
    assert mine.is_ending
    mine.done()


@pytest.mark.parametrize(
    ("error", "place", "may_be_consequence"),
    [
        (ValueError("twelve"), ("forward pass", False, "my.py:3"), False),
        (ValueError("twelve"), ("backward pass", True, "my.py:3"), True),
        (RuntimeError("Connection closed by peer"), ("forward pass", False, "my.py:3"), True),
        (RankError("they differ"), ("building the model (gather)", True, "my.py:3"), False),
    ],
)
def test_fail_sends_error_and_returns_report(
    hub: FakeHub, capfd: pytest.CaptureFixture[str], error: Exception, place: _Status, may_be_consequence: bool
) -> None:
    mine = _start_monitor(hub, place)
    hub.send("hosts", hosts={"0": "b", "1": "a"}, processes={"0": [0, ""], "1": [0, ""]})
    report, message = FailureReport("rank 1 on a failed", 3, [1], [1]), {}

    def answer() -> None:
        message.update(hub.receive("failed"))
        hub.send("report", report=report)

    answering = threading.Thread(target=answer)
    answering.start()
    found = mine.fail(error, "ValueError: twelve", 1, log="rank_1.log")
    answering.join()
    assert (message["text"], message["code"], message["log"]) == ("ValueError: twelve", 1, "rank_1.log")
    assert message["status"][:4:3] == [1, 4]
    assert message["may_be_consequence"] is may_be_consequence
    assert tuple(found) == tuple(report)
    hub.close()  # rank 0 exits too, which must not be reported
    mine.join(10)
    assert capfd.readouterr().err == "error: rank 1 on a failed\n"


def test_status_of_error_is_that_of_its_cause(hub: FakeHub) -> None:
    def read() -> None:
        raise OSError("gone")

    def name() -> None:
        try:
            read()
        except OSError as error:
            raise ValueError("a sample cannot be read") from error

    mine = RankMonitor(
        hub.channel, hub.crash_channel, limit=60.0, inspect_stack=lambda stack: (stack[-1][0].f_code.co_name, False, "")
    )
    with pytest.raises(ValueError, match="sample") as caught:
        name()
    assert mine._status_of(caught.value).phase == "read"


def test_error_that_is_its_own_cause(hub: FakeHub) -> None:
    error = ValueError("twelve")
    mine = RankMonitor(
        hub.channel, hub.crash_channel, limit=60.0, inspect_stack=lambda stack: (f"{len(stack)} frames", False, "")
    )
    with pytest.raises(ValueError, match="twelve"):
        raise error from error
    assert mine._status_of(error).phase == "1 frames"


def _nap() -> int:
    time.sleep(60)
    return 0


def _fork_with_monitor(hub: FakeHub, begin: Callable[[RankMonitor], None]) -> int:
    """Forks a process with a monitor that does not exit by itself."""

    def work() -> int:
        rank_monitor._EXIT_TIMEOUT = 0.1
        hub.close()  # the copy of the forked process
        begin(_start_monitor(hub))
        time.sleep(60)
        return 0

    process = fork(work)
    hub.channel.close()
    hub.crash_channel.close()
    return process


def test_process_that_does_not_exit_is_ended(hub: FakeHub) -> None:
    process = _fork_with_monitor(hub, lambda mine: None)
    hub.send("report", report=FailureReport("rank 0 failed", 7, [0], [0]))
    assert end(process, 10.0) == 7


def test_process_is_ended_with_closed_stderr(hub: FakeHub) -> None:
    process = _fork_with_monitor(hub, lambda mine: os.close(2))
    hub.send("report", report=FailureReport("rank 1 failed", 7, [1], [1]))
    assert end(process, 10.0) == 7


@pytest.mark.parametrize(
    ("fails", "phase", "code"),
    [
        (True, "forward pass", 5),  # an error of its own
        (True, "backward pass", 1),  # an error that rank 0 may have caused
        (False, "", 1),
    ],
)
def test_silent_rank_0_is_reported(hub: FakeHub, tmp_path: Any, fails: bool, phase: str, code: int) -> None:
    def begin(mine: RankMonitor) -> None:
        rank_monitor._HUB_TIMEOUT, rank_monitor._REPORT_TIMEOUT = 0.2, 0.2
        mine._limit, mine.path = (60.0 if fails else 0.2), str(tmp_path / "rank_1.log")
        while 0 not in mine._hosts:
            time.sleep(0.01)
        if fails:
            mine._inspect_stack = lambda stack: (
                phase if len(stack) < 2 else "start",
                phase != "forward pass",
                "my.py:3",
            )
            os._exit(mine.fail(ValueError("twelve"), "ValueError: twelve", 5).code)

    process = _fork_with_monitor(hub, begin)
    hub.send("hosts", hosts={"0": "b", "1": "a"}, processes={"0": [7, ""], "1": [process, ""]})
    assert end(process, 10.0) == code
    message = (tmp_path / "rank_1.log").read_text().splitlines()
    assert message[0].endswith(
        "ERROR - rank 0 on b, process 7, does not respond: it is gone, suspended or busy in native code"
    )
    assert message[1].startswith(f"  rank 1 on a: {phase or 'backward pass'} of iteration 4 for ")
    assert message[2] == ("  ValueError: twelve" if fails else message[-1])


def test_report_after_done_is_ignored(hub: FakeHub) -> None:
    process = _fork_with_monitor(hub, lambda mine: mine.done())
    hub.receive("done")
    hub.send("report", report=FailureReport("rank 0 failed", 7, [0], [0]))
    with pytest.raises(AssertionError):
        assert end(process, 0.5) == 7


def test_death_of_rank_0_is_reported(hub: FakeHub, tmp_path: Any) -> None:
    first = fork(_nap)
    began = start_time_of(first)
    process = _fork_with_monitor(hub, lambda mine: setattr(mine, "path", str(tmp_path / "rank_1.log")))
    hub.send("hosts", hosts={"0": "a", "1": "a"}, processes={"0": [first, began], "1": [process, ""]})
    hub.send("query", is_ending=False)
    hub.receive("status")
    os.kill(first, signal.SIGKILL)
    hub.close()
    assert end(process, 10.0) == 137
    end(first)
    log = (tmp_path / "rank_1.log").read_text().splitlines()
    assert log[0].endswith("ERROR - rank 0 on a was killed by SIGKILL near iteration 4")
    assert log[1:] == [
        f"  process {first}",
        "  if no one sent SIGKILL, the kernel's OOM killer probably did; check dmesg",
        "  rank 1 stopped because of it",
    ]


def test_exit_code_of_local_rank_is_sent(hub: FakeHub) -> None:
    peer = fork(_nap)
    mine = _start_monitor(hub)
    processes = {
        "0": [0, ""],
        "1": [os.getpid(), ""],
        "2": [peer, start_time_of(peer)],
        "3": [peer, "?"],
    }
    hub.send("hosts", hosts={"0": "a", "1": "a", "2": "a", "3": "b"}, processes=processes)
    hub.send("query", is_ending=False)
    hub.receive("status")
    os.kill(peer, signal.SIGTERM)
    for rank in (3, 2):  # rank 3 runs on another machine
        hub.send("gone", rank=rank)
    assert hub.receive("exit") == {"of": 2, "code": -signal.SIGTERM}
    end(peer)
    mine.done()


def test_save_crash(hub: FakeHub, tmp_path: Any) -> None:
    mine = _start_monitor(hub)
    assert mine.save_crash(3, "Fatal") == ""
    mine.path = str(tmp_path / "rank_1.log")
    assert mine.save_crash(3, "Fatal") == str(tmp_path / "rank_3.log")
    assert (tmp_path / "rank_3.log").read_text() == "Fatal"
    mine.path = str(tmp_path / "gone" / "rank_1.log")
    assert mine.save_crash(3, "Fatal") == ""
    mine.done()


def test_forked_process_closes_connections(hub: FakeHub) -> None:
    """Otherwise the death of a rank whose workers outlive it would go unnoticed."""
    reader, writer = os.pipe()

    def begin(mine: RankMonitor) -> None:
        os.register_at_fork(after_in_child=mine.close)
        os.write(writer, str(fork(_nap)).encode())
        os._exit(0)

    process = _fork_with_monitor(hub, begin)
    worker = int(os.read(reader, 20))
    while hub._file.readline():
        pass
    assert not hub._file.readline()  # the connection has ended although the worker is alive
    hub._crashes_end.settimeout(10)
    assert hub._crashes_end.recv(1) == b""  # and so has the crash connection
    os.kill(worker, signal.SIGKILL)  # otherwise this cannot be tested
    end(process)
    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_forked_process_closes_process_descriptors(hub: FakeHub) -> None:
    peer = fork(_nap)
    mine = _start_monitor(hub)
    processes = {"0": [0, ""], "1": [os.getpid(), ""], "2": [peer, start_time_of(peer)]}
    hub.send("hosts", hosts={"0": "b", "1": "a", "2": "a"}, processes=processes)
    hub.send("query", is_ending=False)
    hub.receive("status")
    descriptor = mine._local_processes[2]._descriptor
    assert descriptor is not None

    def close() -> int:
        mine.close()
        try:
            os.fstat(descriptor)
        except OSError:
            return 0
        return 1

    assert end(fork(close), 10.0) == 0
    os.fstat(descriptor)  # still open in this process
    os.kill(peer, signal.SIGKILL)
    end(peer)
    mine.done()


def test_single_process_has_no_monitor() -> None:
    assert rank_monitor.start(limit=60.0, inspect_stack=lambda stack: ("", False, "")) is None
    assert rank_monitor.current() is None


@pytest.mark.parametrize(("term", "first"), [("xterm", b"\r\033[J\033[?25herror: gone"), ("dumb", b"error: gone")])
def test_report_clears_live_display(hub: FakeHub, term: str, first: bytes) -> None:
    master, slave = pty.openpty()

    def begin(mine: RankMonitor) -> None:
        os.environ["TERM"] = term
        os.dup2(slave, 2)
        mine.wrap_text = lambda text: text.replace(" for ", "\n    for ")
        mine._channel.send("ready")

    process = _fork_with_monitor(hub, begin)
    hub.receive("ready")
    hub.send("report", report=FailureReport("gone for good", 7, [1], [1]))
    assert end(process, 10.0) == 7
    assert select.select([master], [], [], 5.0)[0]
    assert os.read(master, 100) == first + b"\r\n    for good\r\n"
    os.close(master)
    os.close(slave)
