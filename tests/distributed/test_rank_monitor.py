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
from footplate.distributed.channel import Channel
from footplate.distributed.exit_status import start_time_of
from footplate.distributed.failure_report import FailureReport
from footplate.distributed.rank_monitor import RankMonitor
from footplate.errors import RankError
from tests.faults.processes import end, fork

_Place = tuple[str, bool, str]


class Other:
    """The hub's ends of a watch's lines."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.line, self.crashes = (Channel(socket.create_connection(server.getsockname())) for _ in range(2))
            self._end, self._crashes_end = (server.accept()[0] for _ in range(2))
        self._end.settimeout(10)
        self._file = self._end.makefile("rb")

    def hear(self, kind: str) -> dict[str, Any]:
        """Returns the next message of a kind; what comes before it is passed over."""
        while True:
            message: dict[str, Any] = json.loads(self._file.readline())
            if message.pop("kind") == kind:
                return message

    def say(self, kind: str, **content: Any) -> None:
        self._end.sendall(json.dumps({"kind": kind, **content}).encode() + b"\n")

    def is_silent(self, seconds: float) -> bool:
        return not select.select([self._end], [], [], seconds)[0]

    def leave(self) -> None:
        self._file.close()
        self._end.close()  # more than once does no harm
        self._crashes_end.close()


@pytest.fixture
def other() -> Iterator[Other]:
    found = Other()
    yield found
    found.leave()
    for each in threading.enumerate():
        if isinstance(each, RankMonitor):
            each.join(10)
    found.line.close()
    found.crashes.close()


def _watch(
    other: Other, place: _Place = ("backward pass", True, "my.py:3"), limit: float = 60.0, told_at: float = 0.0
) -> RankMonitor:
    """A watch of rank 1 whose main thread is where the test says; `told_at` is when it said so last."""
    mine = RankMonitor(other.line, other.crashes, limit=limit, look=lambda stack: place)
    mine.rank, mine.host, mine.iteration, mine._told_at = 1, "a", lambda: 4, told_at
    mine.start()
    return mine


def test_a_rank_that_waits_for_long_tells_so(other: Other) -> None:
    mine = _watch(other, limit=0.4)
    assert other.hear("stuck")["over"] is False
    told = other.hear("stuck")
    assert told["over"] is True
    rank, _, phase, iteration, waits, seconds, line = told["place"]
    assert (rank, phase, iteration, waits, line) == (1, "backward pass", 4, True, "my.py:3")
    assert 0.4 <= seconds < 5
    assert other.hear("stuck")["over"] is False  # once; then it only warns, ever more seldom
    mine.done()


@pytest.mark.parametrize("done", [True, False])
def test_a_rank_that_does_not_wait_tells_nothing(other: Other, done: bool) -> None:
    place: _Place = ("backward pass", True, "") if done else ("data loading", False, "")
    mine = _watch(other, place, limit=0.2, told_at=float("inf"))
    if done:
        mine.done()
        assert other.hear("done") == {}
    assert other.is_silent(0.5)
    mine.done()


def test_where_a_rank_is_is_told_when_it_has_moved(other: Other) -> None:
    places: list[_Place] = [("data loading", False, "a.py:1")]
    mine = RankMonitor(other.line, other.crashes, limit=2.0, look=lambda stack: places[0])
    mine.start()
    assert other.hear("seen")["place"][2] == "data loading"
    assert other.is_silent(0.5)
    places[0] = ("forward pass", False, "b.py:2")
    told_at = mine._told_at
    assert other.hear("seen")["place"][2] == "forward pass"
    assert mine._told_at - told_at >= 1.0  # at most once a second
    mine.done()


def test_who_asks_hears_where_a_rank_is(other: Other) -> None:
    mine = _watch(other, ("data loading", False, "my.py:3"))
    other.say("where", ending=False)
    assert other.hear("place")["place"][2:5] == ["data loading", 4, False]
    assert not mine.ending
    other.say("where", ending=True)
    other.hear("place")
    assert mine.ending
    mine.done()


@pytest.mark.parametrize(
    ("error", "place", "follows"),
    [
        (ValueError("twelve"), ("forward pass", False, "my.py:3"), False),
        (ValueError("twelve"), ("backward pass", True, "my.py:3"), True),
        (RuntimeError("Connection closed by peer"), ("forward pass", False, "my.py:3"), True),
        (RankError("they differ"), ("building the model (gather)", True, "my.py:3"), False),
    ],
)
def test_an_error_is_told_and_the_verdict_comes_back(
    other: Other, capfd: pytest.CaptureFixture[str], error: Exception, place: _Place, follows: bool
) -> None:
    mine = _watch(other, place)
    other.say("hosts", hosts={"0": "b", "1": "a"}, processes={"0": [0, ""], "1": [0, ""]})
    verdict, told = FailureReport("rank 1 on a failed", 3, [1], [1]), {}

    def answer() -> None:
        told.update(other.hear("failed"))
        other.say("verdict", verdict=verdict)

    hub = threading.Thread(target=answer)
    hub.start()
    found = mine.fail(error, "ValueError: twelve", 1, log="rank_1.log")
    hub.join()
    assert (told["text"], told["code"], told["log"]) == ("ValueError: twelve", 1, "rank_1.log")
    assert told["place"][:4:3] == [1, 4]
    assert told["follows"] is follows
    assert tuple(found) == tuple(verdict)
    other.leave()  # the first rank ends too, which is no news
    mine.join(10)
    assert capfd.readouterr().err == "error: rank 1 on a failed\n"


def test_an_error_is_where_its_cause_came(other: Other) -> None:
    def read() -> None:
        raise OSError("gone")

    def name() -> None:
        try:
            read()
        except OSError as error:
            raise ValueError("a sample cannot be read") from error

    mine = RankMonitor(
        other.line, other.crashes, limit=60.0, look=lambda stack: (stack[-1][0].f_code.co_name, False, "")
    )
    with pytest.raises(ValueError, match="sample") as caught:
        name()
    assert mine._place_of(caught.value).phase == "read"


def test_an_error_may_be_its_own_cause(other: Other) -> None:
    error = ValueError("twelve")
    mine = RankMonitor(other.line, other.crashes, limit=60.0, look=lambda stack: (f"{len(stack)} frames", False, ""))
    with pytest.raises(ValueError, match="twelve"):
        raise error from error
    assert mine._place_of(error).phase == "1 frames"


def _nap() -> int:
    time.sleep(60)
    return 0


def _ends(other: Other, begin: Callable[[RankMonitor], None]) -> int:
    """Forks a process whose watch hears that all end, and which does not come to its end by itself."""

    def work() -> int:
        rank_monitor._TO_LEAVE = 0.1
        other.leave()  # this process' copy
        begin(_watch(other))
        time.sleep(60)
        return 0

    process = fork(work)
    other.line.close()
    other.crashes.close()
    return process


def test_a_process_that_does_not_come_to_its_end_is_ended(other: Other) -> None:
    process = _ends(other, lambda mine: None)
    other.say("verdict", verdict=FailureReport("rank 0 failed", 7, [0], [0]))
    assert end(process, 10.0) == 7


def test_a_process_ends_though_nobody_can_read_why(other: Other) -> None:
    process = _ends(other, lambda mine: os.close(2))
    other.say("verdict", verdict=FailureReport("rank 1 failed", 7, [1], [1]))
    assert end(process, 10.0) == 7


@pytest.mark.parametrize(
    ("fails", "phase", "code"),
    [
        (True, "forward pass", 5),  # a mistake of its own
        (True, "backward pass", 1),  # which may follow from what the first rank did
        (False, "", 1),
    ],
)
def test_a_first_rank_that_does_not_answer_is_told_of(
    other: Other, tmp_path: Any, fails: bool, phase: str, code: int
) -> None:
    def begin(mine: RankMonitor) -> None:
        rank_monitor._TO_ANSWER, rank_monitor._TO_BE_JUDGED = 0.2, 0.2
        mine._limit, mine.path = (60.0 if fails else 0.2), str(tmp_path / "rank_1.log")
        while 0 not in mine._hosts:
            time.sleep(0.01)
        if fails:
            mine._look = lambda stack: (phase if len(stack) < 2 else "start", phase != "forward pass", "my.py:3")
            os._exit(mine.fail(ValueError("twelve"), "ValueError: twelve", 5).code)

    process = _ends(other, begin)
    other.say("hosts", hosts={"0": "b", "1": "a"}, processes={"0": [7, ""], "1": [process, ""]})
    assert end(process, 10.0) == code
    told = (tmp_path / "rank_1.log").read_text().splitlines()
    assert told[0].endswith(
        "ERROR - rank 0 on b, process 7, does not respond: it is gone, suspended or busy in native code"
    )
    assert told[1].startswith(f"  rank 1 on a: {phase or 'backward pass'} of iteration 4 for ")
    assert told[2] == ("  ValueError: twelve" if fails else told[-1])


def test_a_rank_that_is_done_ends_as_it_does(other: Other) -> None:
    process = _ends(other, lambda mine: mine.done())
    other.hear("done")
    other.say("verdict", verdict=FailureReport("rank 0 failed", 7, [0], [0]))
    with pytest.raises(AssertionError):
        assert end(process, 0.5) == 7


def test_when_the_first_rank_is_gone_its_end_is_told(other: Other, tmp_path: Any) -> None:
    first = fork(_nap)
    began = start_time_of(first)
    process = _ends(other, lambda mine: setattr(mine, "path", str(tmp_path / "rank_1.log")))
    other.say("hosts", hosts={"0": "a", "1": "a"}, processes={"0": [first, began], "1": [process, ""]})
    other.say("where", ending=False)
    other.hear("place")
    os.kill(first, signal.SIGKILL)
    other.leave()
    assert end(process, 10.0) == 137
    end(first)
    log = (tmp_path / "rank_1.log").read_text().splitlines()
    assert log[0].endswith("ERROR - rank 0 on a was killed by SIGKILL near iteration 4")
    assert log[1:] == [
        f"  process {first}",
        "  if no one sent SIGKILL, the kernel killed it for lack of memory; check dmesg",
        "  rank 1 ended with it",
    ]


def test_a_neighbours_end_is_told(other: Other) -> None:
    neighbour = fork(_nap)
    mine = _watch(other)
    processes = {
        "0": [0, ""],
        "1": [os.getpid(), ""],
        "2": [neighbour, start_time_of(neighbour)],
        "3": [neighbour, "?"],
    }
    other.say("hosts", hosts={"0": "a", "1": "a", "2": "a", "3": "b"}, processes=processes)
    other.say("where", ending=False)
    other.hear("place")
    os.kill(neighbour, signal.SIGTERM)
    for rank in (3, 2):  # of the one elsewhere nothing is known here
        other.say("gone", rank=rank)
    assert other.hear("exit") == {"of": 2, "code": -signal.SIGTERM}
    end(neighbour)
    mine.done()


def test_a_crash_is_kept_in_the_file_of_its_rank(other: Other, tmp_path: Any) -> None:
    mine = _watch(other)
    assert mine.keep(3, "Fatal") == ""
    mine.path = str(tmp_path / "rank_1.log")
    assert mine.keep(3, "Fatal") == str(tmp_path / "rank_3.log")
    assert (tmp_path / "rank_3.log").read_text() == "Fatal"
    mine.path = str(tmp_path / "gone" / "rank_1.log")
    assert mine.keep(3, "Fatal") == ""
    mine.done()


def test_a_forked_process_lets_go_of_the_line(other: Other) -> None:
    """Else nobody would know that a rank is gone whose workers outlive it."""
    reader, writer = os.pipe()

    def begin(mine: RankMonitor) -> None:
        os.register_at_fork(after_in_child=mine.leave_out)
        os.write(writer, str(fork(_nap)).encode())
        os._exit(0)

    process = _ends(other, begin)
    worker = int(os.read(reader, 20))
    while other._file.readline():
        pass
    assert not other._file.readline()  # it has ended, though the worker is there:
    other._crashes_end.settimeout(10)
    assert other._crashes_end.recv(1) == b""  # both have
    os.kill(worker, signal.SIGKILL)  # else this would not find it
    end(process)
    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="processes have no descriptors here")
def test_a_forked_process_lets_go_of_the_others_of_its_machine(other: Other) -> None:
    neighbour = fork(_nap)
    mine = _watch(other)
    processes = {"0": [0, ""], "1": [os.getpid(), ""], "2": [neighbour, start_time_of(neighbour)]}
    other.say("hosts", hosts={"0": "b", "1": "a", "2": "a"}, processes=processes)
    other.say("where", ending=False)
    other.hear("place")
    descriptor = mine._neighbours[2]._descriptor
    assert descriptor is not None

    def leave() -> int:
        mine.leave_out()
        try:
            os.fstat(descriptor)
        except OSError:
            return 0
        return 1

    assert end(fork(leave), 10.0) == 0
    os.fstat(descriptor)  # in this process it stays
    os.kill(neighbour, signal.SIGKILL)
    end(neighbour)
    mine.done()


def test_a_process_that_is_alone_has_no_watch() -> None:
    assert rank_monitor.start(limit=60.0, look=lambda stack: ("", False, "")) is None
    assert rank_monitor.current() is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rank 0 died", "rank 0 died\n  the last checkpoint is iter_2.pth; --resume goes on there\n"),
        ("rank 0 died; the last checkpoint is a.pth", "rank 0 died; the last checkpoint is a.pth\n"),
        ("\n".join("abcdefgh"), "\n".join("abcdefgh") + "\n"),
    ],
)
def test_a_verdict_names_the_last_checkpoint_once(other: Other, tmp_path: Any, text: str, told: str) -> None:
    def begin(mine: RankMonitor) -> None:
        mine.saved, mine.path = lambda: "iter_2.pth", str(tmp_path / "rank_1.log")
        mine._line.send("ready")

    process = _ends(other, begin)
    other.hear("ready")
    other.say("verdict", verdict=FailureReport(text, 7, [0], [0]))
    assert end(process, 10.0) == 7
    assert (tmp_path / "rank_1.log").read_text().partition(" - ERROR - ")[2] == told


@pytest.mark.parametrize(("term", "first"), [("xterm", b"\r\033[J\033[?25herror: gone"), ("dumb", b"error: gone")])
def test_a_verdict_takes_the_live_display_off_a_terminal(other: Other, term: str, first: bytes) -> None:
    master, slave = pty.openpty()

    def begin(mine: RankMonitor) -> None:
        os.environ["TERM"] = term
        os.dup2(slave, 2)
        mine.fold = lambda text: text.replace(" for ", "\n    for ")
        mine._line.send("ready")

    process = _ends(other, begin)
    other.hear("ready")
    other.say("verdict", verdict=FailureReport("gone for good", 7, [1], [1]))
    assert end(process, 10.0) == 7
    assert select.select([master], [], [], 5.0)[0]
    assert os.read(master, 100) == first + b"\r\n    for good\r\n"
    os.close(master)
    os.close(slave)
