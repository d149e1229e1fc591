import json
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from footplate.distributed.lines import Line

_WORDS = 'Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n  File "my.py", line 3 in go\n'


@pytest.fixture
def ends() -> Iterator[tuple[Line, socket.socket]]:
    """A line, and the plain socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname(), timeout=10)
        other = server.accept()[0]
    line = Line(connection)
    yield line, other
    line.close()
    other.close()


def test_a_message_is_one_line_of_json(ends: tuple[Line, socket.socket]) -> None:
    line, other = ends
    line.send("where", ending=True, text="two\nlines")
    assert other.recv(1000) == b'{"kind": "where", "ending": true, "text": "two\\nlines"}\n'


def test_messages_come_whole_however_they_travel(ends: tuple[Line, socket.socket]) -> None:
    line, other = ends
    found = []
    for piece in (b'{"kind": "a"}\n{"ki', b'nd": "b", "n"', b": 3}\n"):
        other.sendall(piece)
        found.append(line.receive())
    assert found == [[{"kind": "a"}], [], [{"kind": "b", "n": 3}]]


def test_threads_do_not_mix_what_they_send(ends: tuple[Line, socket.socket]) -> None:
    line, other = ends
    threads = [threading.Thread(target=line.send, args=("text",), kwargs={"text": str(n) * 60_000}) for n in range(8)]
    for each in threads:
        each.start()
    told = b""
    while told.count(b"\n") < len(threads):
        told += other.recv(1 << 16)
    assert sorted(json.loads(each)["text"][0] for each in told.splitlines()) == list("01234567")


@pytest.mark.parametrize("said", [b"hello\n", b"[1]\n", b'{"no": "kind"}\n', b"\xff\xfe\n", b"x" * (1 << 20)])
def test_what_is_no_message_ends_it(ends: tuple[Line, socket.socket], said: bytes) -> None:
    line, other = ends
    sender = threading.Thread(target=other.sendall, args=(said,))
    sender.start()
    found: object = []
    while found == []:
        found = line.receive()
    sender.join()
    assert found is None


def test_the_end_is_none_and_sending_behind_it_is_no_error(ends: tuple[Line, socket.socket]) -> None:
    line, other = ends
    other.close()
    assert line.receive() is None
    for _ in range(3):
        line.send("place", place=[])


def test_last_words_are_no_messages(ends: tuple[Line, socket.socket]) -> None:
    line, other = ends
    other.sendall(b'{"kind": "seen"}\n' + _WORDS[:30].encode())
    assert line.receive() == [{"kind": "seen"}]
    other.sendall(_WORDS[30:].encode())
    assert line.receive() == []
    assert line.last_words == _WORDS
    other.close()
    assert line.receive() is None


def test_an_error_that_quotes_last_words_is_a_message(ends: tuple[Line, socket.socket]) -> None:
    line, other = ends
    message = {"kind": "failed", "text": _WORDS}
    other.sendall(json.dumps(message).encode() + b"\n")
    assert line.receive() == [message]
    assert line.last_words == ""


def test_a_closed_line_has_no_number(ends: tuple[Line, socket.socket]) -> None:
    line, _ = ends
    os.fstat(line.fileno())
    line.close()
    assert line.fileno() == -1
