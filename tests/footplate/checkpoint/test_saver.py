import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from footplate import storage
from footplate.checkpoint import (
    BackgroundSaver,
    Saved,
    load_checkpoint,
    save_checkpoint,
    saver,
)
from footplate.errors import CheckpointError
from tests.footplate.checkpoint.conftest import State


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_load_opens_a_checkpoint(saved: str, make_state: State, same: Callable[..., bool], mmap: bool) -> None:
    assert same(torch.load(saved, weights_only=True, mmap=mmap), make_state(1))


def test_remote_checkpoints_equal_local_ones(make_state: State, same: Callable[..., bool]) -> None:
    save_checkpoint(make_state(3), "memory://saving/iter_3.pth")
    assert same(load_checkpoint("memory://saving/iter_3.pth"), make_state(3))


def test_unsavable_state_keeps_the_old_file(saved: str, make_state: State) -> None:
    before = storage.read_bytes(saved)
    with pytest.raises(CheckpointError, match=r"key meta\.x"):
        save_checkpoint({"meta": {"x": object()}}, saved)
    assert storage.read_bytes(saved) == before


def test_disk_space_is_checked_before_saving(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int = 3_999_999

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage())
    before = storage.read_bytes(saved)
    with pytest.raises(CheckpointError, match=r"it needs 3\.8 MiB, but only 3\.8 MiB is available"):
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


@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize(("number", "code"), [(1, errno.ENOSPC), (2, errno.EACCES)])
def test_error_in_any_call_keeps_a_complete_checkpoint(
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


def test_old_temporary_files_are_removed(saved: str, make_state: State) -> None:
    left = os.path.join(os.path.dirname(saved), ".iter_9.pth.0123abcd.partial")
    Path(left).touch()
    os.utime(left, (0, 0))
    save_checkpoint(make_state(2), saved)
    assert not os.path.exists(left)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that background saves wait for."""
    event, commit = threading.Event(), saver.commit_checkpoint

    def wait_and_commit(plain: Any, path: str) -> None:
        assert event.wait(10)
        commit(plain, path)

    monkeypatch.setattr(saver, "commit_checkpoint", wait_and_commit)
    return event


def test_saved_state_is_that_of_the_call(
    tmp_path: Path, make_state: State, same: Callable[..., bool], held: threading.Event
) -> None:
    state, saver = make_state(1), BackgroundSaver()
    saver.save(state, tmp_path / "a.pth")
    state["state_dict"]["weight"].zero_()
    state["optimizer"]["param_groups"][0]["lr"] = 0.0
    assert not (tmp_path / "a.pth").exists()
    held.set()
    saver.wait()
    assert same(load_checkpoint(tmp_path / "a.pth"), make_state(1))


def join_save() -> None:
    """Waits until the thread of a save has ended, without completing the save."""
    for thread in threading.enumerate():
        if thread.name == "footplate-checkpoint":
            thread.join(60)


def test_thread_writes_the_files_and_the_caller_does_the_rest(tmp_path: Path, make_state: State) -> None:
    calls = list[threading.Thread]()
    saver = BackgroundSaver(report=lambda saved: calls.append(threading.current_thread()))
    saver.save(make_state(1), tmp_path / "a.pth", home=str(tmp_path))
    join_save()
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "a.pth")
    assert (calls, saver.last) == ([], None)
    saver.wait()
    assert (calls, saver.last) == ([threading.current_thread()], str(tmp_path / "a.pth"))


def test_at_most_one_save_runs_at_a_time(tmp_path: Path, make_state: State, held: threading.Event) -> None:
    order = list[Saved]()
    saver = BackgroundSaver(report=order.append)
    paths = [str(tmp_path / name) for name in ("a.pth", "b.pth")]
    saver.save(make_state(1), paths[0])
    threading.Timer(0.1, held.set).start()
    saver.save(make_state(2), paths[1])
    assert order[:1] == [Saved(paths[0])]
    saver.wait()
    assert order == [Saved(path) for path in paths]
    assert [load_checkpoint(tmp_path / name)["meta"]["iter"] for name in ("a.pth", "b.pth")] == [1, 2]


def test_empty_tensors_of_several_types_are_saved(tmp_path: Path) -> None:
    saver, kinds = BackgroundSaver(), (torch.float32, torch.float64, torch.int64)
    saver.save({"full": torch.ones(3), **{str(kind): torch.empty(0, dtype=kind) for kind in kinds}}, tmp_path / "a.pth")
    saver.wait()
    assert [load_checkpoint(tmp_path / "a.pth")[str(kind)].dtype for kind in kinds] == list(kinds)


def test_failed_save_is_logged_immediately_and_raised_once(
    tmp_path: Path, make_state: State, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    reported = list[Saved]()
    saver = BackgroundSaver(report=reported.append)
    saver.save(make_state(1), tmp_path / "file" / "a.pth")
    with pytest.raises(CheckpointError, match="cannot save") as raised:
        saver.wait()
    saver.wait()
    assert reported == [Saved(str(tmp_path / "file" / "a.pth"), raised.value)]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.messages[0].startswith("The checkpoint was not saved: cannot save")


def test_failed_save_is_raised_by_the_next_save(
    tmp_path: Path, make_state: State, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(home: str, path: str) -> None:
        raise CheckpointError("cannot write the pointer")

    saver = BackgroundSaver()
    saver.write_pointer = fail
    saver.save(make_state(1), tmp_path / "a.pth", home=str(tmp_path))
    with pytest.raises(CheckpointError, match="pointer"):
        saver.save(make_state(2), tmp_path / "b.pth")
    assert os.listdir(tmp_path) == ["a.pth"]
    assert caplog.messages[0] == (
        "The checkpoint was saved, but updating its folder failed: cannot write the pointer\n"
        f"  The last checkpoint is '{tmp_path / 'a.pth'}'."
    )


def test_unsavable_state_is_reported_immediately(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="key a"):
        BackgroundSaver().save({"a": object()}, tmp_path / "a.pth")


def test_with_several_ranks_a_failed_report_is_raised_where_all_ranks_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(saved: Saved) -> None:
        raise OSError("cannot list the folder")

    saver = BackgroundSaver("stop", report=fail)
    monkeypatch.setattr("footplate.checkpoint.saver.get_world_size", lambda: 2)
    saver.save({"weight": torch.zeros(1)}, str(tmp_path / "a.pth"))
    join_save()
    saver.complete()  # each rank calls this on its own
    with pytest.raises(OSError, match="cannot list the folder"):
        saver.wait()
