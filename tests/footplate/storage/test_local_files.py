import errno
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from footplate.storage import local_files


def write_one(path: str) -> None:
    with local_files.atomic_local_file(path) as sink:
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

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, traced(name))
    write_one(str(tmp_path / "a"))
    assert calls == ["fsync", "replace", "folder"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_one(str(tmp_path / "a"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_clean_stale_keeps_other_hidden_files(tmp_path: Path) -> None:
    for name in (".notes", "a.partial", ".data.partial", ".data.012345678.partial", ".a.0123456g.partial"):
        (tmp_path / name).touch()
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    (tmp_path / ".new.0123abcd.partial").touch()
    kept = set(tmp_path.iterdir())
    (tmp_path / ".a\nb.0123abcd.partial").touch()
    os.utime(tmp_path / ".a\nb.0123abcd.partial", (0, 0))
    local_files.clean_stale(str(tmp_path))
    assert set(tmp_path.iterdir()) == kept


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_errors_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def refuse(target: Any, *_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", *([] if name == "fsync" else [target]))

    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        write_one(str(tmp_path / "a"))
    assert caught.value.filename == str(tmp_path / "a")


def test_lock_is_held_by_one_thread_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []

    def enter(number: int) -> None:
        with local_files.lock(str(tmp_path / "new/a")):
            inside.append(number)
            time.sleep(0.002)
            assert inside.pop() == number
            assert inside == []
            done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(4))
