import errno
import fcntl
import os
import signal
import socket
import stat
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate import storage
from footplate.storage import local_files
from footplate.storage.local_files import DescriptorSink


def write_one(path: str) -> None:
    with local_files.atomic_file(path) as sink:
        sink.write(b"one")


def test_commit_syncs_file_before_rename_and_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def traced(name: str) -> Any:
        original = getattr(os, name)

        def call(*args: Any) -> Any:
            kind = "folder" if name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode) else name
            calls.append(kind)
            return original(*args)

        return call

    for name in ("write", "fsync", "replace"):
        monkeypatch.setattr(os, name, traced(name))
    write_one(str(tmp_path / "a"))
    assert calls == ["write", "fsync", "replace", "folder"]


@pytest.mark.parametrize("size", [0, 3, 20])
def test_reserved_space_does_not_change_the_content(tmp_path: Path, size: int) -> None:
    with local_files.atomic_file(str(tmp_path / "a"), reserve=10) as sink:
        assert [path.stat().st_size for path in tmp_path.iterdir()] == [10]
        sink.write(b"x" * size)
    assert (tmp_path / "a").read_bytes() == b"x" * size


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_one(str(tmp_path / "a"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_commit_does_not_replace_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="folder or a device"):
        write_one(str(tmp_path))


@pytest.mark.parametrize("name", ["a" * 255, "模" * 85, "a\nb c", os.fsdecode(b"\xff\xfe.pth")])
def test_commit_accepts_long_and_odd_names(tmp_path: Path, name: str) -> None:
    write_one(str(tmp_path / name))
    assert (tmp_path / name).read_bytes() == b"one"
    assert local_files.clean_stale(str(tmp_path)) == []


def test_unsupported_folder_sync_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write_one(str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b"one"


def test_failed_folder_sync_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no"):
        local_files.sync_folder(str(tmp_path))


def test_clean_stale_keeps_files_of_living_writers(tmp_path: Path) -> None:
    ready, signal_ready = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads, from Python 3.12 on
        child = os.fork()
    if not child:
        with local_files.atomic_file(str(tmp_path / "a")):
            os.write(signal_ready, b"x")
            signal.pause()
    os.read(ready, 1)
    (held,) = tmp_path.iterdir()
    try:
        assert local_files.clean_stale(str(tmp_path)) == []
        assert held.exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert local_files.clean_stale(str(tmp_path)) == [str(held)]
    assert list(tmp_path.iterdir()) == []


def test_writer_replaces_a_temporary_file_that_is_removed_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, found = fcntl.flock, list[Path]()

    def lock_second(descriptor: int, operation: int) -> None:
        if found:
            return flock(descriptor, operation)
        found.extend(tmp_path.iterdir())
        with found[0].open("rb") as other:  # another process begins to clean the folder, and is faster
            flock(other.fileno(), operation)
            return flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_second)
    with local_files.atomic_file(str(tmp_path / "a.pth")) as sink:
        found[0].unlink()
        sink.write(b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
    assert (tmp_path / "a.pth").read_bytes() == b"content"


def test_clean_stale_keeps_other_hidden_files(tmp_path: Path) -> None:
    for name in (".notes", "a.partial", ".data.partial", ".data.012345678.partial", ".a.0123456g.partial"):
        (tmp_path / name).touch()
    assert local_files.clean_stale(str(tmp_path)) == []
    (tmp_path / ".a\nb.0123abcd.partial").touch()
    assert local_files.clean_stale(str(tmp_path)) == [str(tmp_path / ".a\nb.0123abcd.partial")]


def test_temporary_file_removed_before_lock_is_reopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open
    removed: list[str] = []

    def open_and_lose(path: str, *args: int) -> int:
        descriptor = opened(path, *args)
        if path.endswith(".partial") and not removed:
            removed.append(path)
            os.unlink(path)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    write_one(str(tmp_path / "a"))
    assert len(removed) == 1
    assert (tmp_path / "a").read_bytes() == b"one"


def test_descriptor_errors_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        write_one(str(tmp_path / "a"))
    assert caught.value.filename == str(tmp_path / "a")
    for remove, made in ((local_files.remove, Path.touch), (local_files.remove_empty_folder, Path.mkdir)):
        made(tmp_path / "b")
        with pytest.raises(OSError, match="No space left") as caught:
            remove(str(tmp_path / "b"))
        assert caught.value.filename == str(tmp_path / "b")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _device(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("mode", ["rb", "r", "wb"])
@pytest.mark.parametrize(("make", "name"), [(_pipe, "a pipe"), (_socket, "a socket"), (_device, "a device")])
def test_open_special_file_raises_without_blocking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], name: str, mode: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    make(Path("x.pth"))
    with pytest.raises(OSError, match=f"it is {name}, not a regular file: 'x.pth'") as caught:
        storage.open_file("x.pth", mode)
    assert caught.value.filename == "x.pth"


def test_open_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        storage.open_file(tmp_path)


def test_open_file_uses_default_permissions(tmp_path: Path) -> None:
    with storage.open_file(tmp_path / "a", "w") as file, open(tmp_path / "b", "w", encoding="utf-8"):
        file.write("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


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


def test_lock_is_held_by_one_thread_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []

    def enter(number: int) -> None:
        with local_files.lock(str(tmp_path / "new/a")):
            inside.append(number)
            time.sleep(0.02)
            assert inside.pop() == number
            assert inside == []
            done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=enter, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))
    assert list((tmp_path / "new").iterdir()) == []
