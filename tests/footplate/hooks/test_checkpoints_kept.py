"""Files with names of checkpoints are removed only if a run of footplate wrote them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from footplate import Runner
from footplate.checkpoint import load_checkpoint, save_checkpoint, verify
from tests.footplate.hooks.runs import saving_runner
from tests.support import bytes_in


def _run(folder: Path, epochs: int, hook: dict[str, Any] | None = None, **changes: Any) -> Runner:
    values = list(range(10 * epochs, 10 * epochs + 9))
    runner = saving_runner(folder, epochs, {"max_keep_ckpts": 1, **(hook or {})}, values, **changes)
    runner.train()
    return runner


def _rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = load_checkpoint(path)
    content["run"]["loop"] |= {"validated_at": 1, "ended": False}  # of two epochs, so the last validation is pending
    change(content["run"]["hooks"]["CheckpointHook"])
    save_checkpoint(content, path)


def _plant(work: Path) -> dict[str, bytes]:
    """Adds user files to a work_dir, some with names of checkpoints."""
    (work / "epoch_90.sharded").mkdir()
    (work / "epoch_90.sharded/notes.txt").write_text("mine")
    (work / "epoch_91.pth").mkdir()
    for name in ("precious.pth", "thesis.txt", "epoch_92.pth", "best_acc_epoch_93.pth", "best_acc_notes.pth"):
        (work / name).write_text("mine")
    save_checkpoint({"state_dict": {"a": torch.ones(1)}}, work / "model_final.pth")
    save_checkpoint({"state_dict": {"a": torch.ones(1)}}, work / "best_of_all.pth")
    (work / "epoch_94.pth").symlink_to(work / "thesis.txt")
    return bytes_in(work)


_NAMES = [
    *("precious.pth", "thesis.txt", "epoch_92.pth", "best_acc_epoch_93.pth", "best_acc_notes.pth", "model_final.pth"),
    *("best_of_all.pth", "epoch_90.sharded", "epoch_91.pth", "epoch_94.pth", "last_checkpoint", ".", "..", ""),
]


def test_foreign_files_listed_in_a_checkpoint_are_kept(tmp_path: Path) -> None:
    work = tmp_path / "work"
    _run(work, 2)
    before = bytes_in(work)
    planted = {name: data for name, data in _plant(work).items() if name not in before}
    (tmp_path / "outside.pth").write_text("mine")

    def change(state: dict[str, Any]) -> None:
        paths = [*(f"{work}/{name}" for name in _NAMES), str(tmp_path / "outside.pth"), f"{work}/../outside.pth"]
        state["best"]["acc"] += [{"path": path, "score": -1.0} for path in paths]

    _rewritten(work / "epoch_2.pth", change)
    _run(work, 4, resume=True)
    left = bytes_in(work)
    assert {name: left.get(name) for name in planted} == planted
    assert (work / "epoch_91.pth").is_dir()
    assert (work / "epoch_94.pth").is_symlink()
    assert (tmp_path / "outside.pth").read_text() == "mine"
    assert not (work / "epoch_2.pth").exists()  # files that the run wrote are rotated out
    assert not (work / "best_acc_epoch_2.pth").exists()


def test_checkpoint_from_which_a_killed_run_resumes_is_rotated_out(tmp_path: Path) -> None:
    _run(tmp_path, 3, {"max_keep_ckpts": 2})
    (tmp_path / "epoch_3.pth").unlink()
    _run(tmp_path, 3, resume=True)
    assert [each.name for each in tmp_path.glob("epoch_*")] == ["epoch_3.pth"]


def test_linked_checkpoint_is_rotated_as_a_link(tmp_path: Path) -> None:
    work, disk = tmp_path / "work", tmp_path / "disk"
    disk.mkdir()
    _run(work, 1)
    shutil.move(work / "epoch_1.pth", disk)
    (work / "epoch_1.pth").symlink_to(disk / "epoch_1.pth")
    _run(work, 2, resume=True)
    assert verify(disk / "epoch_1.pth")
    assert [path.name for path in work.glob("epoch_*")] == ["epoch_2.pth"]
