import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate import storage
from footplate.checkpoint import (
    BackgroundSaver,
    find_newest,
    load_checkpoint,
    remove_checkpoint,
    saver,
    sharded,
    verify,
    write_pointer,
)
from footplate.checkpoint.contents import read_layout
from footplate.checkpoint.shard_layout import remove_unfinished
from footplate.checkpoint.sharded import load_sharded, save_shards
from footplate.checkpoint_names import sharded_name
from footplate.distributed import get_rank, wrap_model
from footplate.distributed.sharding import is_dtensor, local_tensor
from footplate.errors import CheckpointDamagedError, CheckpointError
from footplate.tools.checkpoint_contents import read_contents
from footplate.tools.checkpoint_conversion import consolidate
from tests.footplate.checkpoint.sharded_examples import change, example, save, shard_state, split_rows
from tests.footplate.distributed.conftest import (
    OnRanks,
    on_ranks,  # noqa: F401 - a fixture
)
from tests.support import bytes_in


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


def test_sharded_checkpoint_on_any_fsspec_storage() -> None:
    path = "memory://parts/iter_8.sharded"
    shard_state(example(), path, 2)
    assert same(load_checkpoint(path), example())
    assert find_newest("memory://parts") == path
    remove_checkpoint(path)
    assert not storage.exists(path + "/state.pth")


def test_replaced_checkpoint_leaves_no_files(folder: Path) -> None:
    before = {each.name for each in folder.iterdir()}
    state = example()
    state["meta"]["iter"] = 9
    save(folder, state, count=2)
    after = {each.name for each in folder.iterdir()}
    assert before & after == {"state.pth"}
    assert len(after) == 3
    assert load_checkpoint(folder)["meta"]["iter"] == 9


@pytest.mark.parametrize("name", ["rank_0", "rank_1", "state"])
def test_failed_save_keeps_the_previous_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    whole = saver.write_file

    def full(state: Any, path: str) -> Any:
        if Path(path).name.startswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(state, path)

    with monkeypatch.context() as patch:
        patch.setattr(sharded, "write_file", full)
        with pytest.raises(CheckpointError, match=r"cannot save '.*iter_8\.sharded': No space left on device"):
            save(folder, {"meta": {"iter": 9}, "state_dict": {"weight": torch.ones(6)}})
    assert same(load_checkpoint(folder), example())
    save(folder)
    assert len(list(folder.iterdir())) == 4


def test_newest_complete_checkpoint_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = (save(tmp_path / f"iter_{number}.sharded", number_state(number)) for number in (8, 16, 24))
    write_pointer(tmp_path, third)
    assert find_newest(tmp_path) == str(third)
    (third / "state.pth").unlink()
    assert find_newest(tmp_path) == str(second)
    assert "is incomplete" in caplog.text
    next(second.glob("rank_1-*.pth")).write_bytes(b"")
    assert find_newest(tmp_path) == str(first)
    (first / "state.pth").unlink()
    assert find_newest(tmp_path) is None


def number_state(number: int) -> dict[str, Any]:
    return {**example(), "meta": {"iter": number}}


def test_files_of_a_dead_save_are_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "iter_4.sharded"
    left.mkdir()
    (left / "rank_0-0a1b2c3d.pth").write_bytes(b"0")
    save(tmp_path / "iter_8.sharded")
    assert left.exists()  # another tool may be writing during a run
    background = BackgroundSaver()
    background.save({"meta": {}}, tmp_path / "iter_8.sharded")
    background.wait()
    assert [each.name for each in tmp_path.iterdir()] == ["iter_8.sharded"]


def test_layout_contains_the_digest_of_every_file(folder: Path) -> None:
    found = read_layout(str(folder), "meta")
    assert {*found.files, "state.pth"} == {each.name for each in folder.iterdir()}
    assert all(verify(folder / name).sha256 == digest for name, digest in found.files.items())
    assert found.digest == verify(folder)
    weight = found.tensors["state_dict.weight"]
    assert (weight.dtype, weight.size) == (torch.float64, (7, 3))
    assert [(each.offsets, each.sizes, each.file[:6]) for each in weight.chunks] == [
        ((0, 0), (3, 3), "rank_0"),
        ((3, 0), (3, 3), "rank_1"),
        ((6, 0), (1, 3), "rank_2"),
    ]
    assert sharded_name("best_mIoU_iter_8.pth") == "best_mIoU_iter_8.sharded"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("pattern", ["state.pth", "rank_0-*.pth", "rank_2-*.pth"])
@pytest.mark.parametrize("where", ["middle", "gone"])
def test_damage_in_any_file_is_detected(folder: Path, pattern: str, where: str) -> None:
    (path,) = folder.glob(pattern)
    if where == "gone":
        path.unlink()
    else:
        flip(path)
    for read in (verify, load_checkpoint):
        with pytest.raises(CheckpointError, match=r"iter_8\.sharded"):
            read(folder)


def test_unfinished_save_is_not_a_checkpoint(folder: Path) -> None:
    (folder / "state.pth").unlink()
    with pytest.raises(CheckpointError, match=r"is incomplete: state\.pth is missing"):
        verify(folder)
    with pytest.raises(CheckpointError, match="checkpoint '.*' does not exist\n.* has no 'other.sharded'"):
        verify(folder.with_name("other.sharded"))


def test_file_of_another_save_is_damage(folder: Path, tmp_path: Path) -> None:
    (path,) = folder.glob("rank_1-*.pth")
    other = save(tmp_path / "other.sharded", {**example(), "state_dict": {"weight": torch.zeros(7, 3)}})
    path.write_bytes(next(other.glob("rank_1-*.pth")).read_bytes())
    for read in (verify, load_checkpoint):
        with pytest.raises(
            CheckpointDamagedError, match="the shard's digest differs from the one recorded in state.pth"
        ):
            read(folder)


def _outside(content: Any) -> None:
    content["files"]["../../secret.pth"] = "0"


def _unlisted(content: Any) -> None:
    content["files"].clear()


def _gap(content: Any) -> None:
    del content["tensors"]["state_dict.weight"][2][1]


def _of_earlier(content: Any) -> None:
    content["format"] = "footplate-sharded 2"


@pytest.mark.parametrize("spoil", [_outside, _unlisted, _gap, _of_earlier])
def test_inconsistent_layout_is_rejected(folder: Path, spoil: Callable[[Any], None]) -> None:
    change(folder, spoil)
    for read in (load_checkpoint, verify, read_contents):
        with pytest.raises(CheckpointError, match="cannot use checkpoint"):
            read(folder)


def _moved_and_linked(folder: Path) -> Path:
    """Moves a checkpoint to another folder and replaces it by a symlink."""
    target = folder.parent / "disk" / folder.name
    target.parent.mkdir(exist_ok=True)
    shutil.move(folder, target)
    folder.symlink_to(target)
    return target


def _save_as_a_run(folder: Path) -> None:
    rest, parts = split_rows(example())
    save_shards(rest, parts.items(), str(folder))


def test_removing_a_linked_folder_removes_only_the_link(folder: Path) -> None:
    target = _moved_and_linked(folder)
    before = bytes_in(target)
    assert verify(folder) == verify(target)
    remove_checkpoint(f"{folder}/")
    assert not folder.is_symlink()
    assert bytes_in(target) == before
    remove_checkpoint(folder)


def test_unknown_folders_are_kept(folder: Path) -> None:
    run = folder.parent
    for name, files in {
        "thesis.sharded": ["chapter/one.tex", "notes.txt"],
        "empty.sharded": [],
        "named.sharded": ["rank_0-0a1b2c3d.pth.bak"],
    }.items():
        (run / name).mkdir()
        for file in files:
            (run / name / file).parent.mkdir(exist_ok=True)
            (run / name / file).write_text("mine")
    (run / "died.sharded").mkdir()
    (run / "died.sharded/rank_0-0a1b2c3d.pth").write_text("half")
    (run / "died.sharded/.state.pth.0a1b2c3d.partial").write_text("half")
    before = {name: held for name, held in bytes_in(run).items() if not name.startswith("died")}
    remove_unfinished(str(run))
    assert not (run / "died.sharded").exists()
    assert bytes_in(run) == before
    assert (run / "empty.sharded").is_dir()
    for name in ("thesis", "named"):
        remove_checkpoint(run / f"{name}.sharded")
    assert bytes_in(run) == before


def test_unknown_files_in_a_checkpoint_are_kept(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    _save_as_a_run(folder)
    remove_checkpoint(folder)
    assert bytes_in(folder) == {"notes.txt": b"mine"}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 7)

    def forward(self, inputs: Any) -> Any:
        return self.layer(inputs)


def held(folder: str, damage: bool) -> Any:
    """Returns the tensors that one of several processes reads from a folder written by other processes."""
    model = wrap_model(Net(), {"type": "FullyShard"})
    try:
        found = load_sharded(folder, torch.device("cpu"), model)
    except CheckpointDamagedError as error:
        return error.message
    weight = found["state_dict"]["weight"]
    assert is_dtensor(weight)
    return get_rank(), local_tensor(weight).tolist(), found["meta"]["iter"], damage


def test_damage_found_by_one_process_is_reported_to_all(
    tmp_path: Path,
    on_ranks: OnRanks,  # noqa: F811
) -> None:
    folder = save(tmp_path / "iter_8.sharded", count=3)
    path = next(folder.glob("rank_1-*.pth"))
    path.write_bytes(path.read_bytes().replace(b"PK", b"PX", 1))
    said = on_ranks(2, held, str(folder), True)
    assert [str(path) in each for each in said] == [True] * 2


def test_shards_become_a_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "iter_8.pth"
    assert consolidate(folder, path) == 3
    assert same(load_checkpoint(path), example())
    assert verify(path).sha256
    held = torch.load(path, weights_only=True)
    assert held["state_dict"]["tied"].data_ptr() == held["state_dict"]["weight"].data_ptr()
    assert {each.name for each in tmp_path.iterdir()} == {"iter_8.pth", "iter_8.sharded"}


def test_damage_is_not_passed_on(folder: Path, tmp_path: Path) -> None:
    next(folder.glob("rank_0-*.pth")).write_bytes(b"")
    with pytest.raises(CheckpointDamagedError, match="rank_0"):
        consolidate(folder, tmp_path / "a.pth")
    assert {each.name for each in tmp_path.iterdir()} == {"iter_8.sharded"}
