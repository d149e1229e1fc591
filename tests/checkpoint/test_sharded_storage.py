import dataclasses
import errno
import io
import logging
import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import storage
from footplate.checkpoint import (
    find_latest,
    load_checkpoint,
    remove_checkpoint,
    sharded_storage,
    verify,
    write_pointer,
)
from footplate.checkpoint.digest import sha256_of_file
from footplate.checkpoint.serializable import cut_evenly, cut_replicated, join_state, split_state
from footplate.checkpoint.shard_layout import (
    FileDigest,
    Layout,
    read_layout,
    remove_unfinished,
    write_layout,
)
from footplate.checkpoint.sharded import save_shards
from footplate.errors import CheckpointError
from footplate.storage.local_files import DescriptorSink
from tests.checkpoint.sharded_examples import example, save, shard_state


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
def test_shards_are_joined_when_loaded(tmp_path: Path, count: int) -> None:
    folder = save(tmp_path / "a.sharded", count=count)
    assert same(load_checkpoint(folder), example())
    shapes = load_checkpoint(folder, "meta")
    assert shapes["state_dict"]["weight"].device.type == "meta"
    assert shapes["state_dict"]["weight"].shape == (7, 3)


def spans(folder: Path, name: str) -> list[tuple[tuple[int, ...], int, int]]:
    chunks = [chunk for each in read_layout(str(folder)).tensors.values() for chunk in each.chunks]
    return [(chunk.sizes, chunk.start, chunk.length) for chunk in chunks if chunk.file == name]


def test_only_the_state_is_pickled_and_it_is_read_as_data(folder: Path) -> None:
    assert {each.suffix for each in folder.iterdir()} == {".json", ".pth", ".distcp"}
    assert not list(folder.glob(".metadata"))
    for path in folder.glob("*.distcp"):
        for size, start, length in spans(folder, path.name):
            shard = torch.load(io.BytesIO(path.read_bytes()[start : start + length]), weights_only=True)
            assert tuple(shard.shape) == size


def test_sharded_checkpoint_on_any_fsspec_storage() -> None:
    path = "memory://parts/iter_8.sharded"
    shard_state(example(), path, 2)
    assert same(load_checkpoint(path), example())
    assert find_latest("memory://parts") == path
    remove_checkpoint(path)
    assert not storage.exists(path + "/layout.json")


def test_replaced_checkpoint_leaves_no_files(folder: Path) -> None:
    before = {each.name for each in folder.iterdir()}
    state = example()
    state["meta"]["iter"] = 9
    save(folder, state, count=2)
    after = {each.name for each in folder.iterdir()}
    assert before & after == {"layout.json"}
    assert len(after) == 4
    assert load_checkpoint(folder)["meta"]["iter"] == 9


@pytest.mark.parametrize("failing", ["FolderWriter.write_data", "commit_checkpoint", "write_layout"])
def test_failed_save_keeps_the_previous_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"{sharded_storage.__name__}.{failing}", full)
        with pytest.raises(CheckpointError, match=r"cannot save '.*iter_8\.sharded': No space left on device"):
            save(folder, {"meta": {"iter": 9}, "state_dict": {"weight": torch.ones(6)}})
    assert same(load_checkpoint(folder), example())
    save(folder)
    assert len(list(folder.iterdir())) == 5


def test_full_disk_is_named_and_keeps_the_previous_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch replaces the errors of a stream with its own."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = _held(folder)
    with monkeypatch.context() as patch:
        patch.setattr(DescriptorSink, "write", full)
        with pytest.raises(CheckpointError, match=r"cannot save '.*iter_8\.sharded': No space left on device"):
            save(folder)
    assert _held(folder) == before


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_shards_are_read_as_data(folder: Path) -> None:
    """A hostile file has correct digests."""
    stream = io.BytesIO()
    torch.save(Trap(folder / "mark"), stream)
    (path,) = folder.glob("rank_0-*-0.distcp")
    path.write_bytes(stream.getvalue())
    layout = read_layout(str(folder))
    spoiled = {
        name: dataclasses.replace(
            each,
            chunks=[
                chunk._replace(start=0, length=len(stream.getvalue())) if chunk.file == path.name else chunk
                for chunk in each.chunks
            ],
        )
        for name, each in layout.tensors.items()
    }
    files = {**layout.files, path.name: FileDigest(path.stat().st_size, sha256_of_file(str(path)))}
    write_layout(str(folder), Layout(layout.state, spoiled, files))
    verify(folder)
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        load_checkpoint(folder)
    assert not (folder / "mark").exists()


def test_latest_complete_checkpoint_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = (save(tmp_path / f"iter_{number}.sharded", number_state(number)) for number in (8, 16, 24))
    write_pointer(tmp_path, third)
    assert find_latest(tmp_path) == str(third)
    (third / "layout.json").unlink()
    assert find_latest(tmp_path) == str(second)
    assert "did not finish" in caplog.text
    next(second.glob("rank_0-*-1.distcp")).write_bytes(b"")
    assert find_latest(tmp_path) == str(first)


def number_state(number: int) -> dict[str, Any]:
    return {**example(), "meta": {"iter": number}}


def test_files_of_a_dead_save_are_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "iter_4.sharded"
    left.mkdir()
    (left / "rank_0-0-0.distcp").write_bytes(b"0")
    save(tmp_path / "iter_8.sharded")
    assert left.exists()  # another tool may be writing during a run
    save_shards({"meta": {}}, (), str(tmp_path / "iter_8.sharded"))
    assert [each.name for each in tmp_path.iterdir()] == ["iter_8.sharded"]


def test_state_is_split_and_joined() -> None:
    state = example()
    rest, parts = split_state(state, cut_evenly(0, 1))
    assert list(parts) == ["state_dict.weight", "state_dict.bias", "optimizer.state.0.exp_avg"]
    again = join_state(rest, {name: part.tensor for name, part in parts.items()})
    assert torch.equal(again["state_dict"]["weight"], state["state_dict"]["weight"])
    assert again["state_dict"]["tied"] is again["state_dict"]["weight"]
    assert isinstance(again["state_dict"], OrderedDict)
    assert again["state_dict"]._metadata == {"": {"version": 2}}  # type: ignore[attr-defined]
    assert again["optimizer"]["param_groups"] == [{"params": [0], "betas": (0.9, 0.99)}]
    assert again["run"]["random"][0] is state["run"]["random"][0]


def test_only_replicated_tensors_are_split() -> None:
    mine, theirs = torch.ones(4), torch.ones(4)
    cut = cut_replicated({mine.untyped_storage().data_ptr()}, 1, 2)
    part = cut("state_dict.a", mine[:])
    assert part is not None
    assert (part.tensor.shape, part.offsets) == ((2,), (2,))
    assert cut("state_dict.b", theirs) is None


def _moved_and_linked(folder: Path) -> Path:
    """Moves a checkpoint to another folder and replaces it by a symlink."""
    target = folder.parent / "disk" / folder.name
    target.parent.mkdir(exist_ok=True)
    shutil.move(folder, target)
    folder.symlink_to(target)
    return target


def _save_as_a_run(folder: Path) -> None:
    rest, parts = split_state(example(), cut_evenly(0, 1))
    save_shards(rest, parts.items(), str(folder))


def _held(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_removing_a_linked_folder_removes_only_the_link(folder: Path) -> None:
    target = _moved_and_linked(folder)
    before = _held(target)
    assert verify(folder) == verify(target)
    remove_checkpoint(f"{folder}/")
    assert not folder.is_symlink()
    assert _held(target) == before
    remove_checkpoint(folder)


def test_unknown_folders_are_kept(folder: Path) -> None:
    run = folder.parent
    for name, files in {
        "thesis.sharded": ["chapter/one.tex", "notes.txt"],
        "empty.sharded": [],
        "named.sharded": ["rank_0-0a1b2c3d-0.distcp.bak"],
    }.items():
        (run / name).mkdir()
        for file in files:
            (run / name / file).parent.mkdir(exist_ok=True)
            (run / name / file).write_text("mine")
    (run / "died.sharded").mkdir()
    (run / "died.sharded/rank_0-0a1b2c3d-0.distcp").write_text("half")
    (run / "died.sharded/.state-0a1b2c3d.pth.0a1b2c3d.partial").write_text("half")
    before = {name: held for name, held in _held(run).items() if not name.startswith("died")}
    assert remove_unfinished(str(run), but="") == [str(run / "died.sharded")]
    assert _held(run) == before
    assert (run / "empty.sharded").is_dir()
    for name in ("thesis", "named"):
        remove_checkpoint(run / f"{name}.sharded")
        with pytest.raises(CheckpointError, match="files that footplate did not write"):
            _save_as_a_run(run / f"{name}.sharded")
    assert _held(run) == before


def test_unknown_files_in_a_checkpoint_are_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "notes.txt").write_text("mine")
    _save_as_a_run(folder)
    with caplog.at_level(logging.WARNING):
        remove_checkpoint(folder)
    assert _held(folder) == {"notes.txt": b"mine"}
    assert caplog.messages[-1].endswith("because it contains files that footplate did not write: notes.txt.")


def test_failed_save_removes_only_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "iter_8.sharded"
    folder.mkdir()
    (folder / "rank_0-0a1b2c3d-0.distcp").write_text("half")  # left by an interrupted save

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("footplate.checkpoint.sharded_storage.write_layout", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        shard_state(example(), str(folder), 2)
    assert [each.name for each in folder.iterdir()] == ["rank_0-0a1b2c3d-0.distcp"]
