import os
from pathlib import Path

import pytest

from footplate.storage.sink import DescriptorSink


@pytest.mark.parametrize("sizes", [[3, 5], [1 << 20], [10, 3 << 20, 10], [(1 << 20) - 1, 1]])
def test_sink_keeps_byte_order(tmp_path: Path, sizes: list[int]) -> None:
    pieces = [os.urandom(size) for size in sizes]
    with open(tmp_path / "a", "wb") as stream:
        sink = DescriptorSink(stream.fileno())
        assert [sink.write(piece) for piece in pieces] == sizes
        sink.flush()
    assert (tmp_path / "a").read_bytes() == b"".join(pieces)


def test_sink_retries_partial_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:1000])))
    data = os.urandom(2 << 20)
    with open(tmp_path / "a", "wb") as stream:
        DescriptorSink(stream.fileno()).write(memoryview(data))
    assert (tmp_path / "a").read_bytes() == data


def test_sink_buffers_small_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    write = os.write

    def counted(descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", counted)
    with open(tmp_path / "a", "wb") as stream:
        sink = DescriptorSink(stream.fileno())
        for _ in range(1000):
            sink.write(b"x" * 10)
        sink.flush()
    assert calls == [10_000]
