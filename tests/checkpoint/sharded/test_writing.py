import errno
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import storage
from footplate.checkpoint import find_latest, load_checkpoint, remove_checkpoint, verify, write_pointer
from footplate.checkpoint.sharded import folder as folders
from footplate.checkpoint.sharded import reading, split
from footplate.checkpoint.sharded.splitting import cut_evenly
from footplate.checkpoint.sharded.writing import save_all_parts, save_parts
from footplate.errors import CheckpointError
from tests.checkpoint.sharded.conftest import example, save


def same(found: Any, expected: Any) -> bool:
    for section in ("state_dict", "optimizer", "run"):
        for mine, theirs in zip(_tensors(found[section]), _tensors(expected[section]), strict=True):
            assert torch.equal(mine, theirs)
            assert mine.dtype == theirs.dtype
    return bool(found["meta"] == expected["meta"])


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [each for entry in inner for each in _tensors(entry)]


@pytest.mark.parametrize("count", [1, 2, 4, 11])
def test_parts_come_back_as_the_whole(tmp_path: Path, count: int) -> None:
    folder = save(tmp_path / "a.sharded", count=count)
    assert same(load_checkpoint(folder), example())
    shapes = load_checkpoint(folder, "meta")
    assert shapes["state_dict"]["weight"].device.type == "meta"
    assert shapes["state_dict"]["weight"].shape == (7, 3)


def test_nothing_in_the_folder_is_pickled_but_the_state_which_is_read_as_data(folder: Path) -> None:
    for path in folder.iterdir():
        if path.suffix != ".pth":
            with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError)):
                pickle.loads(path.read_bytes())
    assert not list(folder.glob(".metadata"))


def test_any_target_of_fsspec_will_do() -> None:
    path = "memory://parts/iter_8.sharded"
    states = [split(example(), cut_evenly(number, 2)) for number in range(2)]
    save_all_parts(states[0][0], [parts for _, parts in states], path)
    assert same(load_checkpoint(path), example())
    assert find_latest("memory://parts") == path
    remove_checkpoint(path)
    assert not storage.exists(path + "/layout.json")


def test_a_save_over_another_leaves_nothing_of_it(folder: Path) -> None:
    before = {each.name for each in folder.iterdir()}
    state = example()
    state["meta"]["iter"] = 9
    save(folder, state, count=2)
    after = {each.name for each in folder.iterdir()}
    assert before & after == {"layout.json"}
    assert len(after) == 4
    assert load_checkpoint(folder)["meta"]["iter"] == 9


@pytest.mark.parametrize("failing", ["_write_tensors", "commit_plain", "write_layout"])
def test_a_save_that_fails_leaves_the_one_before(folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(folders, failing, full)
        with pytest.raises(CheckpointError, match=r"cannot save '.*iter_8\.sharded': No space left on device"):
            save(folder, {"meta": {"iter": 9}, "state_dict": {"weight": torch.ones(6)}})
    assert same(load_checkpoint(folder), example())
    save(folder)
    assert len(list(folder.iterdir())) == 5


def test_too_little_space_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "free_space", lambda folder: 100)
    with pytest.raises(CheckpointError, match=r"it needs \d+ B, and 100 B are free"):
        save(tmp_path / "a.sharded")
    assert not list(tmp_path.rglob("*.bin"))


def test_the_newest_whole_one_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = (save(tmp_path / f"iter_{number}.sharded", number_state(number)) for number in (8, 16, 24))
    write_pointer(tmp_path, third)
    assert find_latest(tmp_path) == str(third)
    (third / "layout.json").unlink()
    assert find_latest(tmp_path) == str(second)
    assert "did not end" in caplog.text
    next(second.glob("rank_1*")).write_bytes(b"")
    assert find_latest(tmp_path) == str(first)


def number_state(number: int) -> dict[str, Any]:
    return {**example(), "meta": {"iter": number}}


def test_what_a_dead_save_left_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / "iter_4.sharded"
    left.mkdir()
    (left / "rank_0-0.bin").write_bytes(b"0")
    save(tmp_path / "iter_8.sharded")
    assert left.exists()  # another tool may be writing during a run
    save_parts({"meta": {}}, {}, str(tmp_path / "iter_8.sharded"))
    assert [each.name for each in tmp_path.iterdir()] == ["iter_8.sharded"]


def test_a_removed_one_is_gone(folder: Path) -> None:
    remove_checkpoint(folder)
    assert not folder.exists()
    remove_checkpoint(folder)
    assert find_latest(folder.parent) is None


def test_long_tensors_travel_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_PIECE_BYTES", 50)
    monkeypatch.setattr(reading, "_PIECE_BYTES", 70)
    folder = save(tmp_path / "a.sharded", count=2)
    assert verify(folder).digest
    assert same(load_checkpoint(folder), example())
