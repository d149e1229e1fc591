import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest

from footplate.checkpoint import (
    find_newest,
    list_candidates,
    read_pointer,
    save_checkpoint,
    write_pointer,
)
from tests.footplate.checkpoint.conftest import State


def _save(make_state: State, folder: Path, *names: str) -> list[str]:
    for number, name in enumerate(names):
        save_checkpoint(make_state(number), folder / name)
    return [str(folder / name) for name in names]


def _damage(path: str) -> None:
    content = bytearray(Path(path).read_bytes())
    content[100] ^= 1
    Path(path).write_bytes(content)


def test_newest_checkpoint_is_the_one_saved_last(tmp_path: Path, make_state: State) -> None:
    paths = _save(make_state, tmp_path, "epoch_9.pth", "iter_1000.pth", "epoch_10.pth", "epoch_2.pth")
    for age, path in enumerate(paths):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert list_candidates(tmp_path) == paths[::-1]
    assert find_newest(tmp_path) == paths[-1]


def test_damaged_checkpoints_are_skipped_and_reported(
    tmp_path: Path, make_state: State, caplog: pytest.LogCaptureFixture
) -> None:
    paths = _save(make_state, tmp_path, "iter_1.pth", "iter_2.pth", "iter_3.pth")
    write_pointer(tmp_path, paths[2])
    _damage(paths[2])
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes()[:-1])
    assert find_newest(tmp_path) == paths[0]
    cut, altered = sorted(caplog.messages)
    assert cut.startswith(f"Skipped: checkpoint '{paths[1]}' is damaged: the end of the archive is")
    assert altered.startswith(f"Skipped: checkpoint '{paths[2]}' is damaged: ")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert find_newest(tmp_path) is None
    assert find_newest(tmp_path / "nope") is None
    assert read_pointer(tmp_path) is None
    assert list_candidates("memory://nothing-here") == []


def _begun(make_state: State, folder: Path, *numbers: int) -> None:
    for number in numbers:
        save_checkpoint(make_state(number), folder / f"iter_{number}.pth")
        write_pointer(folder, folder / f"iter_{number}.pth")


def test_copied_run_is_independent(tmp_path: Path, make_state: State) -> None:
    _begun(make_state, tmp_path / "run", 1, 2)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    _begun(make_state, tmp_path / "run", 3)
    assert find_newest(tmp_path / "copy") == str(tmp_path / "copy/iter_2.pth")
    (tmp_path / "run/iter_2.pth").unlink()  # the run keeps only a few checkpoints
    assert find_newest(tmp_path / "copy") == str(tmp_path / "copy/iter_2.pth")
    assert list_candidates(tmp_path / "copy") == [str(tmp_path / f"copy/iter_{number}.pth") for number in (2, 1)]


def test_moved_run_resumes_from_the_checkpoint_of_its_pointer(tmp_path: Path, make_state: State) -> None:
    _begun(make_state, tmp_path / "run", 9, 5)  # started over, or with a wrong clock
    (tmp_path / "run").rename(tmp_path / "moved")
    save_checkpoint(make_state(4), tmp_path / "moved/iter_4.pth")
    assert find_newest(tmp_path / "moved") == str(tmp_path / "moved/iter_5.pth")


def test_pointer_prefers_its_folder_to_a_checkpoint_with_the_same_name(tmp_path: Path, make_state: State) -> None:
    _begun(make_state, tmp_path / "work", 3)
    save_checkpoint(make_state(3), tmp_path / "out/iter_3.pth")
    write_pointer(tmp_path / "work", tmp_path / "out/iter_3.pth")
    assert find_newest(tmp_path / "work") == str(tmp_path / "out/iter_3.pth")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/iter_9.pth", "memory://finding-elsewhere/iter_9.pth", "nowhere://a"]
)
def test_pointer_to_another_storage_is_ignored(
    tmp_path: Path,
    make_state: State,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    address: str,
) -> None:
    save_checkpoint(make_state(9), "memory://finding-elsewhere/iter_9.pth")
    (path,) = _save(make_state, tmp_path, "iter_1.pth")
    (tmp_path / "last_checkpoint").write_text(address)

    def connect(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"it connects: {args}")

    for owner, name in ((socket, "getaddrinfo"), (socket.socket, "connect"), (fsspec.core, "url_to_fs")):
        monkeypatch.setattr(owner, name, connect)
    assert find_newest(tmp_path) == path
    told = caplog.messages[0]
    assert "its target is on a different storage backend" in told
    assert address in told
    assert list_candidates(tmp_path) == [path]
