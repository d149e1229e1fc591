"""Files that footplate did not write are never removed from or replaced in a sharded checkpoint."""

import logging
import shutil
from pathlib import Path

import pytest
import torch

from footplate.checkpoint import find_latest, load_checkpoint, remove_checkpoint, verify
from footplate.checkpoint.saving import save_checkpoint, write_pointer
from footplate.checkpoint.sharded.ownership import check_writable, clean_unfinished
from footplate.checkpoint.sharded.splitting import cut_evenly, split
from footplate.checkpoint.sharded.writing import save_all_parts, save_parts
from footplate.errors import CheckpointError
from tests.checkpoint.sharded.conftest import example, save


def _moved_and_linked(folder: Path) -> Path:
    """Moves a checkpoint to another folder and replaces it by a symlink."""
    target = folder.parent / "disk" / folder.name
    target.parent.mkdir(exist_ok=True)
    shutil.move(folder, target)
    folder.symlink_to(target)
    return target


def _save_as_a_run(folder: Path) -> None:
    rest, parts = split(example(), cut_evenly(0, 1))
    save_parts(rest, parts, str(folder))


def _held(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_of_a_linked_folder_only_the_link_is_removed(folder: Path) -> None:
    target = _moved_and_linked(folder)
    before = _held(target)
    assert verify(folder) == verify(target)
    remove_checkpoint(f"{folder}/")
    assert not folder.is_symlink()
    assert _held(target) == before
    remove_checkpoint(folder)


def test_of_a_linked_file_only_the_link_is_removed(tmp_path: Path) -> None:
    path, target = tmp_path / "iter_1.pth", tmp_path / "disk.pth"
    save_checkpoint({"a": torch.ones(1)}, target)
    path.symlink_to(target)
    remove_checkpoint(path)
    assert not path.is_symlink()
    assert torch.equal(load_checkpoint(target)["a"], torch.ones(1))


@pytest.mark.parametrize("is_there", [True, False])
def test_links_do_not_stop_a_save(folder: Path, is_there: bool) -> None:
    target = _moved_and_linked(folder)
    if is_there:
        (target / "layout.json").unlink()
    else:
        shutil.rmtree(target)
    before = _held(target)
    _save_as_a_run(folder.with_name("iter_9.sharded"))
    assert folder.is_symlink()
    assert _held(target) == before
    assert find_latest(folder.parent) == str(folder.with_name("iter_9.sharded"))


def test_a_link_that_leads_nowhere_is_named(folder: Path) -> None:
    shutil.rmtree(_moved_and_linked(folder))
    with pytest.raises(CheckpointError, match=r"cannot save '.*iter_8\.sharded': it is a symbolic link") as caught:
        _save_as_a_run(folder)
    assert caught.value.notes == ("Remove the link.",)


def test_a_linked_work_dir_and_pointer_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "work").symlink_to(tmp_path / "disk")
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "disk/last_checkpoint").symlink_to(tmp_path / "elsewhere")
    save(tmp_path / "work/iter_8.sharded")
    write_pointer(tmp_path / "work", tmp_path / "work/iter_8.sharded")
    assert (tmp_path / "elsewhere").read_text() == "mine"
    assert find_latest(tmp_path / "work") == str(tmp_path / "work/iter_8.sharded")
    assert find_latest(tmp_path / "disk") == str(tmp_path / "disk/iter_8.sharded")


def test_foreign_folders_stay(folder: Path) -> None:
    run = folder.parent
    for name, files in {
        "thesis.sharded": ["chapter/one.tex", "notes.txt"],
        "empty.sharded": [],
        "mixed.sharded": ["rank_0-0a1b2c3d.bin", "notes.txt"],
        "other.sharded": ["layout.json"],
        "named.sharded": ["rank_0-0a1b2c3d.bin.bak"],
    }.items():
        (run / name).mkdir()
        for file in files:
            (run / name / file).parent.mkdir(exist_ok=True)
            (run / name / file).write_text("mine")
    (run / "died.sharded").mkdir()
    (run / "died.sharded/rank_0-0a1b2c3d.bin").write_text("half")
    (run / "died.sharded/.state-0a1b2c3d.pth.0a1b2c3d.partial").write_text("half")
    before = {name: held for name, held in _held(run).items() if not name.startswith("died")}
    assert clean_unfinished(str(run), but="") == [str(run / "died.sharded")]
    assert _held(run) == before
    assert (run / "empty.sharded").is_dir()
    for name in ("thesis", "mixed", "other", "named"):
        remove_checkpoint(run / f"{name}.sharded")
        with pytest.raises(CheckpointError, match="files that footplate did not write"):
            _save_as_a_run(run / f"{name}.sharded")
    assert _held(run) == before


def test_foreign_files_in_a_checkpoint_survive_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "notes.txt").write_text("mine")
    (folder / "rank_7-0a1b2c3d.bin").mkdir()
    (folder / "rank_7-0a1b2c3d.bin" / "deep.txt").write_text("mine")
    check_writable(str(folder))
    _save_as_a_run(folder)
    assert _held(folder).keys() > {"notes.txt", "rank_7-0a1b2c3d.bin/deep.txt"}
    with caplog.at_level(logging.WARNING):
        remove_checkpoint(folder)
    assert _held(folder) == {"notes.txt": b"mine", "rank_7-0a1b2c3d.bin/deep.txt": b"mine"}
    assert caplog.messages[-1].endswith(
        "stays: it holds files that footplate did not write: notes.txt, rank_7-0a1b2c3d.bin"
    )


def test_a_save_that_fails_removes_no_more_than_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "iter_8.sharded"
    folder.mkdir()
    (folder / "rank_0-0a1b2c3d.bin").write_text("half")  # left by an interrupted save

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("footplate.checkpoint.sharded.folder.write_layout", full)
    several = [split(example(), cut_evenly(number, 2)) for number in range(2)]
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_all_parts(several[0][0], [parts for _, parts in several], str(folder))
    assert [each.name for each in folder.iterdir()] == ["rank_0-0a1b2c3d.bin"]
