import json
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from footplate.distributed.channel import Channel


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    """A line, and the plain socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname(), timeout=10)
        other = server.accept()[0]
    line = Channel(connection)
    yield line, other
    line.close()
    other.close()


def test_a_message_is_one_line_of_json(ends: tuple[Channel, socket.socket]) -> None:
    line, other = ends
    line.send("where", ending=True, text="two\nlines")
    assert other.recv(1000) == b'{"kind": "where", "ending": true, "text": "two\\nlines"}\n'


def test_messages_come_whole_however_they_travel(ends: tuple[Channel, socket.socket]) -> None:
    line, other = ends
    found = []
    for piece in (b'{"kind": "a"}\n{"ki', b'nd": "b", "n"', b": 3}\n"):
        other.sendall(piece)
        found.append(line.receive())
    assert found == [[{"kind": "a"}], [], [{"kind": "b", "n": 3}]]


def test_threads_do_not_mix_what_they_send(ends: tuple[Channel, socket.socket]) -> None:
    line, other = ends
    threads = [threading.Thread(target=line.send, args=("text",), kwargs={"text": str(n) * 60_000}) for n in range(8)]
    for each in threads:
        each.start()
    told = b""
    while told.count(b"\n") < len(threads):
        told += other.recv(1 << 16)
    assert sorted(json.loads(each)["text"][0] for each in told.splitlines()) == list("01234567")


@pytest.mark.parametrize("said", [b"hello\n", b"[1]\n", b'{"no": "kind"}\n', b"\xff\xfe\n", b"x" * (1 << 20)])
def test_what_is_no_message_ends_it(ends: tuple[Channel, socket.socket], said: bytes) -> None:
    line, other = ends
    sender = threading.Thread(target=other.sendall, args=(said,))
    sender.start()
    found: object = []
    while found == []:
        found = line.receive()
    sender.join()
    assert found is None


def test_the_end_is_none_and_sending_behind_it_is_no_error(ends: tuple[Channel, socket.socket]) -> None:
    line, other = ends
    other.close()
    assert line.receive() is None
    for _ in range(3):
        line.send("place", place=[])


def test_text_behind_a_message_is_no_end_yet(ends: tuple[Channel, socket.socket]) -> None:
    line, other = ends
    other.sendall(b'{"kind": "crashes"}\nFatal Python error\n\nCurrent')
    assert line.receive() == [{"kind": "crashes"}]
    other.sendall(b" thread")
    other.close()
    assert line.last_words(10.0) == "Fatal Python error\n\nCurrent thread"


def test_last_words_are_all_that_comes_until_the_end(ends: tuple[Channel, socket.socket]) -> None:
    line, other = ends
    other.sendall(b"Fatal ")
    other.sendall(b"Python error\n\xff")
    other.close()
    assert line.last_words(10.0) == "Fatal Python error\n\ufffd"


def test_nobody_waits_long_for_last_words(ends: tuple[Channel, socket.socket]) -> None:
    line, other = ends
    other.sendall(b"Fatal")
    assert line.last_words(0.05) == "Fatal"


def test_a_closed_line_has_no_number(ends: tuple[Channel, socket.socket]) -> None:
    line, _ = ends
    os.fstat(line.fileno())
    line.close()
    assert line.fileno() == -1
