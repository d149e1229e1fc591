"""What an ordinary user may not do: each operation says so, and leaves what is there."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate import storage


@pytest.fixture
def read_only(folder_of_nobody: Path) -> Path:
    """A folder with a file, in which nothing may be written."""
    folder = folder_of_nobody / "run"
    storage.commit_bytes(folder / "a", b"kept")
    folder.chmod(0o555)
    return folder


@pytest.mark.parametrize("name", ["a", "new", "below/new"])
def test_a_folder_that_may_not_be_written_keeps_what_it_has(read_only: Path, name: str) -> None:
    with pytest.raises(PermissionError):
        storage.commit_bytes(read_only / name, b"other")
    assert {path.name: path.read_bytes() for path in read_only.iterdir()} == {"a": b"kept"}


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: storage.remove(folder / "a"),
        lambda folder: storage.make_dirs(folder / "below"),
        lambda folder: storage.open_file(folder / "new", "wb"),
    ],
)
def test_what_may_not_be_done_is_an_error(read_only: Path, act: Callable[[Path], Any]) -> None:
    with pytest.raises(PermissionError) as raised:
        act(read_only)
    assert raised.value.errno == errno.EACCES
    assert str(read_only) in str(raised.value.filename)
    assert storage.list_dir(read_only) == ["a"]


def test_a_file_that_may_not_be_written_is_replaced_where_its_folder_may(folder_of_nobody: Path) -> None:
    path = folder_of_nobody / "a"
    path.write_bytes(b"old")
    path.chmod(0o444)
    storage.commit_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_that_may_be_written_and_not_listed_takes_files(folder_of_nobody: Path) -> None:
    folder = folder_of_nobody / "drop"
    folder.mkdir()
    folder.chmod(0o333)
    storage.commit_bytes(folder / "a", b"whole")  # its sync is left out: it cannot be opened
    storage.remove(folder / "a")
    storage.commit_bytes(folder / "b", b"whole")
    with pytest.raises(PermissionError):
        storage.list_dir(folder)
    with pytest.raises(PermissionError):
        storage.clean_stale(folder)
    folder.chmod(0o700)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"b": b"whole"}


def test_what_may_not_be_read_is_an_error_and_no_missing_file(folder_of_nobody: Path) -> None:
    path = folder_of_nobody / "a"
    path.write_bytes(b"secret")
    path.chmod(0o000)
    with pytest.raises(PermissionError):
        storage.read_bytes(path)
    assert storage.exists(path)
    assert storage.status(path).size == 6


def test_what_others_left_half_written_stays_where_it_may_not_be_removed(folder_of_nobody: Path) -> None:
    path = folder_of_nobody / ".a.0123abcd.partial"
    path.write_bytes(b"half")
    path.chmod(0o000)
    assert storage.clean_stale(folder_of_nobody) == []
    path.chmod(0o600)
    folder_of_nobody.chmod(0o555)
    assert storage.clean_stale(folder_of_nobody) == []
    folder_of_nobody.chmod(0o700)
    assert storage.clean_stale(folder_of_nobody) == [os.fspath(path)]
