"""Operations without permission raise an error and leave existing files unchanged."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate import storage


@pytest.fixture
def read_only(folder_of_nobody: Path) -> Path:
    """Returns a read-only folder that holds a file."""
    folder = folder_of_nobody / "run"
    storage.commit_bytes(folder / "a", b"kept")
    folder.chmod(0o555)
    return folder


@pytest.mark.parametrize("name", ["a", "new", "below/new"])
def test_read_only_folder_is_unchanged(read_only: Path, name: str) -> None:
    with pytest.raises(PermissionError):
        storage.commit_bytes(read_only / name, b"other")
    assert {path.name: path.read_bytes() for path in read_only.iterdir()} == {"a": b"kept"}


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: storage.remove(folder / "a"),
        lambda folder: storage.make_dirs(folder / "below"),
        lambda folder: storage.append_line(str(folder / "new"), ""),
    ],
)
def test_forbidden_operation_raises(read_only: Path, act: Callable[[Path], Any]) -> None:
    with pytest.raises(PermissionError) as raised:
        act(read_only)
    assert raised.value.errno == errno.EACCES
    assert str(read_only) in str(raised.value.filename)
    assert storage.list_dir(read_only) == ["a"]


def test_commit_to_unlistable_folder(folder_of_nobody: Path) -> None:
    folder = folder_of_nobody / "drop"
    folder.mkdir()
    folder.chmod(0o333)
    storage.commit_bytes(folder / "a", b"whole")  # the folder cannot be opened, so it is not synced
    storage.remove(folder / "a")
    storage.commit_bytes(folder / "b", b"whole")
    with pytest.raises(PermissionError):
        storage.list_dir(folder)
    with pytest.raises(PermissionError):
        storage.clean_stale(folder)
    folder.chmod(0o700)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"b": b"whole"}


def test_unreadable_file_is_not_reported_as_missing(folder_of_nobody: Path) -> None:
    path = folder_of_nobody / "a"
    path.write_bytes(b"secret")
    path.chmod(0o000)
    with pytest.raises(PermissionError):
        storage.read_bytes(path)
    assert storage.exists(path)
    assert storage.status(path).size == 6
