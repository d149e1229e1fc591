import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import BackgroundSaver, load_checkpoint, saving
from footplate.errors import CheckpointError

State = Callable[[int], dict[str, Any]]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that background saves wait for."""
    event, commit = threading.Event(), saving.commit_plain

    def wait_and_commit(plain: Any, path: str) -> None:
        assert event.wait(10)
        commit(plain, path)

    monkeypatch.setattr(saving, "commit_plain", wait_and_commit)
    return event


def test_what_is_saved_is_the_state_at_the_call(
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


def test_at_most_one_is_in_flight(tmp_path: Path, make_state: State, held: threading.Event) -> None:
    saver, order = BackgroundSaver(), list[int]()
    saver.save(make_state(1), tmp_path / "a.pth", then=lambda: order.append(1))
    threading.Timer(0.1, held.set).start()
    saver.save(make_state(2), tmp_path / "b.pth", then=lambda: order.append(2))
    assert order[:1] == [1]
    saver.wait()
    assert order == [1, 2]
    assert [load_checkpoint(tmp_path / name)["meta"]["iter"] for name in ("a.pth", "b.pth")] == [1, 2]


def test_memory_is_used_again_and_sharing_is_kept(tmp_path: Path) -> None:
    saver, weight = BackgroundSaver(), torch.arange(6.0).reshape(2, 3)
    ordered = OrderedDict(a=weight, b=weight.T)
    ordered._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    for number in range(3):
        saver.save({"w": ordered, "l": [weight[0], (1, None)], "n": number}, tmp_path / f"{number}.pth")
        weight += 1
    saver.wait()
    for number in range(3):
        loaded = load_checkpoint(tmp_path / f"{number}.pth")
        assert loaded["w"]["a"].tolist() == (torch.arange(6.0).reshape(2, 3) + number).tolist()
        assert loaded["w"]["a"].data_ptr() == loaded["w"]["b"].data_ptr()
        assert loaded["w"]._metadata == {"": {"version": 2}}
        assert loaded["l"][0].tolist() == [number, number + 1, number + 2]


def test_empty_tensors_of_several_types_are_saved(tmp_path: Path) -> None:
    saver, kinds = BackgroundSaver(), (torch.float32, torch.float64, torch.int64)
    saver.save({"full": torch.ones(3), **{str(kind): torch.empty(0, dtype=kind) for kind in kinds}}, tmp_path / "a.pth")
    saver.wait()
    assert [load_checkpoint(tmp_path / "a.pth")[str(kind)].dtype for kind in kinds] == list(kinds)


def test_a_failure_is_logged_at_once_and_raised_once(
    tmp_path: Path, make_state: State, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    saver, later = BackgroundSaver(), list[int]()
    saver.save(make_state(1), tmp_path / "file" / "a.pth", then=lambda: later.append(1))
    with pytest.raises(CheckpointError, match="cannot save"):
        saver.wait()
    saver.wait()
    assert later == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a save in the background failed: cannot save" in caplog.messages[0]


def test_a_failure_is_raised_by_the_next_save_too(tmp_path: Path, make_state: State) -> None:
    saver = BackgroundSaver()

    def fail() -> None:
        raise CheckpointError("cannot write the pointer")

    saver.save(make_state(1), tmp_path / "a.pth", then=fail)
    with pytest.raises(CheckpointError, match="pointer"):
        saver.save(make_state(2), tmp_path / "b.pth")
    assert os.listdir(tmp_path) == ["a.pth"]


def test_a_state_that_cannot_be_saved_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="key a"):
        BackgroundSaver().save({"a": object()}, tmp_path / "a.pth")


def test_a_thread_that_cannot_be_started_costs_one_save(
    tmp_path: Path, make_state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    saver = BackgroundSaver()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            saver.save(make_state(1), tmp_path / "a.pth")
    saver.save(make_state(2), tmp_path / "b.pth")
    saver.wait()
    assert os.listdir(tmp_path) == ["b.pth"]
