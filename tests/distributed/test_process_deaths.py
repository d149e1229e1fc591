import contextlib
import faulthandler
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from footplate.distributed import failure_report
from footplate.distributed.failure_hub import Channel
from footplate.distributed.failure_report import (
    LocalProcess,
    describe_exit_code,
    disable_crash_dump,
    enable_crash_dump,
    indicates_lost_rank,
    innermost_line_of_dump,
    start_time_of,
)
from tests.faults.processes import end, fork

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def _nap() -> int:
    time.sleep(60)
    return 0


def _killed(number: int) -> Callable[[], int]:
    def work() -> int:
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)
        return _nap()

    return work


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda: 0, 0),
        (lambda: 3, 3),
        (_killed(signal.SIGKILL), -signal.SIGKILL),
        (_killed(signal.SIGTERM), -signal.SIGTERM),
    ],
)
def test_exit_code_of_other_process(work: Callable[[], int], code: int) -> None:
    reader, writer = os.pipe()

    def begin() -> int:
        os.read(reader, 1)
        return work()

    process = fork(begin)
    other = LocalProcess(process, start_time_of(process))
    assert other.exit_code(0.0) is None  # it is alive
    os.write(writer, b"x")
    assert other.exit_code(10.0) == code  # not collected yet
    assert end(process) == code
    assert other.exit_code(0.0) in (code, None)  # only newer kernels know it then
    other.close()
    os.close(reader)
    os.close(writer)


def test_reused_process_id_is_detected() -> None:
    process = fork(lambda: 0)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert LocalProcess(process, "1").exit_code(0.01) is None
    assert LocalProcess(process, start_time_of(process)).exit_code(0.01) == 0
    end(process)
    assert start_time_of(process) == ""


@pytest.mark.parametrize(
    ("code", "text"),
    [(-6, "was killed by SIGABRT"), (-200, "was killed by signal 200"), (0, "exited with code 0")],
)
def test_describe_exit_code(code: int, text: str) -> None:
    assert describe_exit_code(code) == text


def _crash(descriptor: int, *, own: bool) -> Callable[[], int]:
    def work() -> int:
        faulthandler.disable()  # pytest's
        if own:
            faulthandler.enable(2)
        enable_crash_dump(descriptor)
        signal.signal(signal.SIGABRT, signal.SIG_DFL) if own else None
        os.abort()

    return work


def _pair() -> tuple[socket.socket, Channel]:
    """Returns the two ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname(), timeout=10)
        return here, Channel(server.accept()[0])


def test_crash_dump_holds_user_line() -> None:
    here, there = _pair()
    process = fork(_crash(there.fileno(), own=False))
    there.close()
    assert end(process) == -signal.SIGABRT
    dump = ""
    while piece := here.recv(1 << 16).decode():
        dump += piece
    here.close()
    assert dump.startswith("Fatal Python error: Aborted")
    number = next(
        n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.strip() == "os.abort()"
    )
    assert innermost_line_of_dump(dump) == f"{os.path.relpath(__file__)}:{number}, in work"


def test_crash_dump_does_not_block() -> None:
    here, there = _pair()
    for each in (here, there._socket):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(there.fileno(), b"x")
    process = fork(_crash(there.fileno(), own=False))
    there.close()
    assert end(process, 10.0) == -signal.SIGABRT
    here.close()


def test_enabled_faulthandler_is_kept() -> None:
    here, there = _pair()
    process = fork(_crash(there.fileno(), own=True), os.devnull)
    there.close()
    assert end(process) == -signal.SIGABRT
    assert here.recv(100) == b""
    here.close()


def test_disable_crash_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(faulthandler, "is_enabled", lambda: False)
    monkeypatch.setattr(faulthandler, "enable", lambda descriptor, all_threads: calls.append(descriptor))
    monkeypatch.setattr(faulthandler, "disable", lambda: calls.append("disabled"))
    enable_crash_dump(5)
    disable_crash_dump(6)  # not the current descriptor
    disable_crash_dump(5)
    disable_crash_dump(5)
    enable_crash_dump(7)
    disable_crash_dump()
    assert calls == [5, "disabled", 7, "disabled"]


def test_innermost_line_of_dump() -> None:
    frames = [(failure_report.__file__, 9, "ours"), ("/x/my.py", 3, "go"), ("/x/main.py", 1, "<module>")]
    dump = "".join(f'  File "{file}", line {line} in {name}\n' for file, line, name in frames)
    assert innermost_line_of_dump(dump) == "/x/my.py:3, in go"
    assert innermost_line_of_dump(dump.split("\n")[0]).endswith("failure_report.py:9, in ours")
    assert innermost_line_of_dump("nothing") == ""


def _raised_from(cause: Exception) -> Exception:
    try:
        raise ValueError("a save failed") from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1"), True),
        (RuntimeError("NCCL error: remote process exited"), True),
        (ConnectionResetError(104, "reset"), True),
        (_raised_from(RuntimeError("Connection reset by peer")), True),
        (_raised_from(KeyError("x")), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("a socket"), False),
    ],
)
def test_indicates_lost_rank(error: Exception, expected: bool) -> None:
    assert indicates_lost_rank(error) is expected
