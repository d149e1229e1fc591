import json
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from footplate.distributed.channel import Channel


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


def test_read_text_are_all_that_comes_until_the_end(ends: tuple[Channel, socket.socket]) -> None:
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
