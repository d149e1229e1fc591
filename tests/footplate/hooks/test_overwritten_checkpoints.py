"""A run does not overwrite checkpoints that existed before it."""

from pathlib import Path
from typing import Any

import pytest

from footplate.errors import ArgumentError
from tests.footplate.hooks.runs import saving_runner


def _run(*arguments: Any, **changes: Any) -> None:
    saving_runner(*arguments, **changes).train()


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and "lock" not in path.name
    }


@pytest.mark.parametrize("suffix", ["pth", "sharded"])
def test_second_run_in_a_folder_is_refused(tmp_path: Path, suffix: str) -> None:
    folder, hook = tmp_path / "out/work", {"sharded": suffix == "sharded", "out_dir": str(tmp_path / "out")}
    _run(tmp_path / "work", 3, hook)
    before = _content(tmp_path)
    with pytest.raises(ArgumentError) as caught:
        _run(tmp_path / "work", 2, hook)
    assert _content(tmp_path) == before
    assert str(caught.value).splitlines() == [
        f"'{folder}' contains checkpoints from another run: best_acc_epoch_1.{suffix}, epoch_1.{suffix}, "
        f"epoch_2.{suffix} and 1 more",
        "  key work_dir",
        "  To resume that run, pass --resume (resume=True).",
        "  To keep its checkpoints, use another --work-dir (work_dir). To start over here, delete them first.",
    ]
    _run(tmp_path / "work", 4, hook, resume=True)


def test_stop_position_of_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    runner = saving_runner(tmp_path, 1, {"interval": -1, "save_last": False, "save_best": None})
    runner.train()
    runner.boundary.save_on_request()
    runner.saver.wait()
    (tmp_path / "last_checkpoint").unlink()  # as in a folder to which only the checkpoint was copied
    with pytest.raises(ArgumentError, match=": on_signal.pth"):
        _run(tmp_path)


def test_resume_from_an_earlier_checkpoint_lists_later_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _run(tmp_path, 3, values=(1, 2, 0, 0, 0))
    caplog.clear()
    _run(tmp_path, 3, resume=True, load_from=str(tmp_path / "epoch_1.pth"))
    names = "best_acc_epoch_2.pth, epoch_2.pth, epoch_3.pth"
    assert f"This run will replace later checkpoints in '{tmp_path}': {names}." in caplog.messages


@pytest.mark.parametrize("by_setting", [True, False])
def test_run_in_the_folder_of_another_is_refused_although_it_resumes_a_third(tmp_path: Path, by_setting: bool) -> None:
    for name in ("one", "two"):
        _run(tmp_path / name, 2)
    third = str(tmp_path / "two/epoch_2.pth")
    changes: dict[str, Any] = {"resume": True, "load_from": third} if by_setting else {}
    runner = saving_runner(tmp_path / "one", 3, **changes)
    if not by_setting:
        runner.resume(third)
    with pytest.raises(ArgumentError, match="one' contains checkpoints"):
        runner.train()
