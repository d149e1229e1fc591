import contextlib
import errno
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Runner
from footplate.engine.run_folder import Restart, locked
from footplate.errors import ArgumentError
from tests.support import settings


def hold(folder: str, ready: Any) -> None:
    with locked(folder):
        if os.fork() == 0:  # simulates a worker that outlives its run
            ready.set()
            for descriptor in range(64):
                with contextlib.suppress(OSError):
                    if not os.path.samestat(os.fstat(descriptor), os.stat(f"{folder}/.lock")):
                        os.close(descriptor)
            signal.alarm(20)
            signal.pause()
        signal.pause()


def test_two_runs_in_one_work_dir_are_refused_until_the_first_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready))
    process.start()
    ready.wait(20)
    runner = Runner(**settings(tmp_path))
    with pytest.raises(ArgumentError, match="Another run uses the folder") as caught:
        runner.train()
    assert caught.value.key == "work_dir"
    assert caught.value.notes[0].startswith(f"process {process.pid} on ")
    assert list(tmp_path.iterdir()) == [tmp_path / ".lock"]
    process.kill()
    process.join()
    assert runner.train() is runner.model


def test_one_run_after_the_other(tmp_path: Path) -> None:
    for _ in range(2):
        Runner(**settings(tmp_path)).train()
    assert not (tmp_path / ".lock").exists()
    with locked(str(tmp_path / "made")):
        assert (tmp_path / "made/.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_errors_at_the_lock_name_it_and_hide_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close, number = os.close, errno.ENOSPC

    def refuse(descriptor: int, *rest: int) -> None:
        if rest:
            raise OSError(number, "No space left on device")
        close(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", refuse)
        with pytest.raises(RuntimeError, match="^own$"), locked(str(tmp_path)):
            raise RuntimeError("own")
        patched.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="No space left") as caught, locked(str(tmp_path)):
            pass
    assert caught.value.filename == str(tmp_path / ".lock")


def test_checkpoints_of_two_runs_do_not_go_to_one_folder(tmp_path: Path) -> None:
    """The folder below out_dir has the name of the work_dir."""
    hooks = {"checkpoint": {"interval": 1, "out_dir": str(tmp_path / "out")}}
    with locked(str(tmp_path / "out/run")):
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_refused, args=(settings(tmp_path / "b/run", default_hooks=hooks),))
        process.start()
        process.join()
        assert process.exitcode == 0
    Runner(**settings(tmp_path / "b/run", default_hooks=hooks)).train()
    assert sorted(each.name for each in (tmp_path / "out/run").iterdir()) == [
        "epoch_1.pth",
        "epoch_2.pth",
        "epoch_3.pth",
    ]


def _refused(cfg: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="Another run uses the folder '.*out/run'") as caught:
        Runner(**cfg).train()
    assert caught.value.key == "default_hooks.checkpoint.out_dir"
    assert caught.value.notes[-1] == "Use another work_dir or out_dir, or end the other run."


def test_an_out_dir_that_takes_no_lock_is_for_the_saves_to_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    hooks = {"checkpoint": {"interval": 1, "out_dir": str(tmp_path / "file")}}
    Runner(**settings(tmp_path / "run", default_hooks=hooks)).train()
    assert sum(each.startswith("Not saved: cannot save") for each in caplog.messages) == 3


def test_the_lock_of_another_is_left_alone(tmp_path: Path) -> None:
    with locked(str(tmp_path)):
        (tmp_path / ".lock").rename(tmp_path / "moved")  # as if the folder was removed and another run started in it
        (tmp_path / ".lock").write_text("another")
    assert (tmp_path / ".lock").read_text() == "another"


def test_a_process_that_is_forked_within_does_not_unlock(tmp_path: Path) -> None:
    here = os.getpid()
    with contextlib.suppress(SystemExit), locked(str(tmp_path)):
        process = os.fork()
        if not process:
            raise SystemExit
        os.waitpid(process, 0)
        assert (tmp_path / ".lock").exists()
    if os.getpid() != here:
        os._exit(0)
    assert not (tmp_path / ".lock").exists()


def test_a_run_whose_folder_became_another_ones_saves_nothing_there(tmp_path: Path) -> None:
    """The folder is moved after the first epoch, and another run locks a new one of that name."""
    place = tmp_path / "run"

    class Mover(Hook):
        def after_train_epoch(self, runner: Runner) -> None:
            if runner.epoch == 1:
                runner.saver.settle()  # a save in the background would create the folder again
                place.rename(tmp_path / "run_old")
                place.mkdir()
                (place / ".lock").write_text("another")

    Runner(**settings(place, custom_hooks=[Mover()])).train()
    assert not list(place.glob("*.pth"))
    assert not (place / "last_checkpoint").exists()
    assert (place / ".lock").read_text() == "another"


@pytest.fixture
def elastic(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    return monkeypatch


def _point(home: Path, name: str, at: float) -> None:
    (home / "last_checkpoint").write_text(str(home / name))
    os.utime(home / "last_checkpoint", (at, at))


def _begin(
    home: Path, count: int, patch: pytest.MonkeyPatch, resume: bool | str = False
) -> tuple[str | None, bool | str]:
    patch.setenv("TORCHELASTIC_RESTART_COUNT", str(count))
    restart = Restart(str(home), str(home))
    found = restart.begins_with("weights.pth", resume)
    restart.record()
    return found


def test_a_run_that_is_not_started_again_begins_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    restart = Restart(str(tmp_path), str(tmp_path))
    assert restart.begins_with("weights.pth", False) == ("weights.pth", False)
    restart.record()
    assert restart.begins_with("weights.pth", False) == ("weights.pth", False)


@pytest.mark.parametrize(("resume", "load_from"), [(True, None), ("auto", "weights.pth")])
def test_a_resume_says_that_a_later_start_saved_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, resume: bool | str, load_from: str | None
) -> None:
    _point(tmp_path, "epoch_6.pth", 1.0)
    Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume)
    assert caplog.messages == []
    anew = Restart(str(tmp_path), str(tmp_path))
    anew.begins_with(None, False)
    anew.record()
    assert Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume) == (load_from, resume)
    assert caplog.messages == [
        f"{tmp_path}: the latest run in this folder started over and saved no checkpoint. An earlier run is resumed. "
        "To start over, leave out resume."
    ]
    caplog.clear()
    Restart(str(tmp_path), str(tmp_path)).begins_with("other.pth", True)
    _point(tmp_path, "epoch_1.pth", 2.0)
    Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume)
    assert caplog.messages == []


def test_a_run_in_a_new_folder_leaves_no_mark(tmp_path: Path) -> None:
    restart = Restart(str(tmp_path), str(tmp_path))
    restart.begins_with(None, False)
    restart.record()
    assert list(tmp_path.iterdir()) == []


def test_what_was_committed_since_is_gone_on_from(tmp_path: Path, elastic: pytest.MonkeyPatch) -> None:
    assert _begin(tmp_path, 0, elastic) == ("weights.pth", False)
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 1, elastic) == (None, True)
    assert _begin(tmp_path, 2, elastic) == (None, True)


def test_what_an_earlier_run_committed_is_not(tmp_path: Path, elastic: pytest.MonkeyPatch) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 0, elastic) == ("weights.pth", False)
    assert _begin(tmp_path, 1, elastic) == ("weights.pth", False)
    _point(tmp_path, "epoch_1.pth", 2.0)  # written by this run under the same name
    assert _begin(tmp_path, 2, elastic) == (None, True)


def test_a_run_that_resumes_goes_on_from_whatever_is_there(tmp_path: Path, elastic: pytest.MonkeyPatch) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 0, elastic, resume=True) == ("weights.pth", True)
    assert _begin(tmp_path, 1, elastic, resume=True) == (None, True)


def test_without_a_checkpoint_it_begins_as_it_did(
    tmp_path: Path, elastic: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _begin(tmp_path, 0, elastic)
    assert _begin(tmp_path, 1, elastic) == ("weights.pth", False)
    assert caplog.messages == ["Restart 1 of 3 by torchrun: the run starts over, because it has saved no checkpoint."]
