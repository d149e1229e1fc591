import errno
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from footplate.records import surviving_streams


class Refusing(io.StringIO):
    """A stream that cannot write."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.asked = number, 0

    def write(self, text: str) -> int:
        self.asked += 1
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_print_errors_are_suppressed_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    stream = Refusing(number)
    monkeypatch.setattr(sys, "stdout", stream)
    with caplog.at_level(logging.WARNING), surviving_streams():
        print("one", flush=True)
        sys.stdout.writelines(["two\n", "three\n"])
    assert sys.stdout is stream
    assert caplog.messages == [
        f"Cannot write to standard output ({os.strerror(number)}). The text is lost, but the run continues."
    ]
    with pytest.raises(OSError, match=os.strerror(number)):
        print("behind it")


def test_working_streams_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with surviving_streams(), surviving_streams():
        print("one")
        print("two", file=sys.stderr)
        assert not sys.stdout.isatty()
    assert [each.getvalue() for each in streams] == ["one\n", "two\n"]


def test_broken_pipe_is_redirected_to_null(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with surviving_streams():
            print("one", flush=True)
        print("two", flush=True)
        assert os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))


def test_a_full_disk_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write, full = os.write, [True]

    class Disk(io.FileIO):
        def write(self, data: Any, /) -> int:
            if full[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(self.fileno(), bytes(data))

    with io.TextIOWrapper(io.BufferedWriter(Disk(tmp_path / "out", "w"))) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with surviving_streams():
            print("one", flush=True)
            full[0] = False
            print("two", flush=True)
    lines = (tmp_path / "out").read_text().splitlines()
    assert [line for line in lines if "is lost" not in line] == ["one", "two"]  # a log may also be printed there


def test_missing_streams_stay_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with surviving_streams():
        print("nowhere")
    assert sys.stdout is None


def test_replaced_stream_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    other = io.StringIO()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with surviving_streams():
        sys.stdout = other
    assert sys.stdout is other
