import errno
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from footplate import storage
from footplate.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint, write_pointer
from footplate.errors import CheckpointError

State = Callable[[int], dict[str, Any]]


@pytest.mark.parametrize("mmap", [False, True])
def test_plain_torch_opens_it(saved: str, make_state: State, same: Callable[..., bool], mmap: bool) -> None:
    assert same(torch.load(saved, weights_only=True, mmap=mmap), make_state(1))


def test_zip_tools_open_it(saved: str) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"footplate-checkpoint 1 saved=")


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path, make_state: State, form: str) -> None:
    path = tmp_path / "a" / "b" / "iter_1.pth"
    save_checkpoint(make_state(1), form.format(path))
    assert os.listdir(path.parent) == ["iter_1.pth"]


def test_remote_targets_hold_the_same(make_state: State, same: Callable[..., bool]) -> None:
    save_checkpoint(make_state(3), "memory://saving/iter_3.pth")
    assert same(load_checkpoint("memory://saving/iter_3.pth"), make_state(3))


def test_a_state_that_cannot_be_saved_leaves_the_old_file(saved: str, make_state: State) -> None:
    before = storage.read_bytes(saved)
    with pytest.raises(CheckpointError, match=r"key meta\.x"):
        save_checkpoint({"meta": {"x": object()}}, saved)
    assert storage.read_bytes(saved) == before


def test_space_is_checked_beforehand(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int = 3_999_999

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage())
    before = storage.read_bytes(saved)
    with pytest.raises(CheckpointError, match=r"it needs 4\.0 MB, and 4\.0 MB are free"):
        save_checkpoint({"a": torch.zeros(1_000_000)}, saved)
    save_checkpoint({"a": torch.zeros(999_999)}, saved + "2")
    assert storage.read_bytes(saved) == before


class _Failing:
    """Replaces a system function, whose n-th call fails."""

    def __init__(self, original: Callable[..., Any], number: int, code: int) -> None:
        self.original, self.left, self.code = original, number, code

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise OSError(self.code, os.strerror(self.code))
        return self.original(*args, **kwargs)


_CALLS = ["open", "write", "fsync", "replace", "fstat", "close", "unlink", "makedirs", "scandir"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize("number", [1, 2])
def test_an_error_of_any_call_keeps_a_whole_checkpoint(
    saved: str, make_state: State, same: Callable[..., bool], code: int, call: str, number: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, _Failing(getattr(os, call), number, code))
        try:
            save_checkpoint(make_state(2), saved)
        except CheckpointError as error:
            assert os.strerror(code) in str(error)  # noqa: PT017 - many of the calls do not fail the save
    assert any(same(load_checkpoint(saved), make_state(which)) for which in (1, 2))
    assert os.listdir(os.path.dirname(saved)) == ["iter_1.pth"]


def test_a_full_disk_is_told(saved: str, make_state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(make_state(2), saved)
    assert str(caught.value) == f"cannot save '{saved}': No space left on device"


def test_what_a_dead_process_left_is_cleaned(saved: str, make_state: State) -> None:
    left = os.path.join(os.path.dirname(saved), ".iter_9.pth.0123abcd.partial")
    Path(left).touch()
    save_checkpoint(make_state(2), saved)
    assert not os.path.exists(left)


def test_the_pointer_holds_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pointer(".", "iter_1.pth")
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "iter_1.pth")


def test_removing_is_told_apart_from_failing(saved: str, tmp_path: Path) -> None:
    remove_checkpoint(saved)
    remove_checkpoint(saved)
    assert not os.path.exists(saved)
    with pytest.raises(CheckpointError, match="cannot remove"):
        remove_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="cannot write"):
        write_pointer("/proc/nowhere", saved)
