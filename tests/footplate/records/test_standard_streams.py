import errno
import io
import logging
import os
import sys

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


def test_print_errors_are_suppressed_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream, number = Refusing(errno.ENOSPC), errno.ENOSPC
    monkeypatch.setattr(sys, "stdout", stream)
    with caplog.at_level(logging.WARNING), surviving_streams():
        print("one", flush=True)
        sys.stdout.writelines(["two\n", "three\n"])
    assert sys.stdout is stream
    assert caplog.messages == [
        f"Cannot write to stdout ({os.strerror(number)}). All further output to it is discarded, but the run continues."
    ]
    with pytest.raises(OSError, match=os.strerror(number)):
        print("behind it")


def test_broken_pipe_is_redirected_to_null(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with surviving_streams():
            print("one", flush=True)
        print("two", flush=True)
        assert os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))
