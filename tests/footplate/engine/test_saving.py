import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Run, Runner
from footplate.checkpoint import Saved, find_newest, saver
from footplate.errors import CheckpointError
from footplate.hooks import CheckpointHook
from tests.support import settings


class Disk:
    """A stand-in for a disk, in which the commits with the numbers in `full` fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *full: int) -> None:
        self.times, self.full, self.commit = 0, full, saver.commit_checkpoint
        monkeypatch.setattr(saver, "commit_checkpoint", self)

    def __call__(self, plain: Any, path: str) -> None:
        self.times += 1
        if self.times in self.full:
            raise CheckpointError(f"cannot save '{path}': No space left on device")
        self.commit(plain, path)


def run(tmp_path: Path, policy: str = "warn", **hook: Any) -> Runner:
    hooks = {"logger": None, "checkpoint": {"interval": 1, "max_keep_ckpts": 2, **hook}}
    train_cfg = {"by_epoch": True, "max_epochs": 5}
    runner = Runner(**settings(tmp_path, default_hooks=hooks, train_cfg=train_cfg, on_save_error=policy))
    runner.train()
    return runner


def names(folder: Path) -> list[str]:
    return sorted(each.stem for each in folder.glob("*.pth"))


def test_failed_save_keeps_existing_files_and_training_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Disk(monkeypatch, 3, 5, 6)
    runner = run(tmp_path)
    assert names(tmp_path) == ["epoch_2", "epoch_4"]
    assert runner.epoch == 5
    assert runner.message_hub.get_info("last_ckpt") == str(tmp_path / "epoch_4.pth") == find_newest(tmp_path)
    said = [each for each in caplog.messages if each.startswith("The checkpoint was not saved")]
    assert said[0] == (
        f"The checkpoint was not saved: cannot save '{tmp_path / 'epoch_3.pth'}': No space left on device\n"
        f"  The last checkpoint is '{tmp_path / 'epoch_2.pth'}'."
    )
    assert [each.count("epoch_5.pth") for each in said] == [0, 1, 1]  # the last one is tried again


def test_hooks_learn_what_was_saved(tmp_path: Path) -> None:
    class Uploads(Hook):
        def __init__(self) -> None:
            self.seen: list[tuple[str, bool, bool]] = []

        def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
            if runner.epoch == 2:
                checkpoint["handle"] = object()

        def after_save_checkpoint(self, runner: Any, saved: Saved) -> None:
            self.seen.append((Path(saved.path).name, saved.error is None, Path(saved.path).exists()))

    hook = Uploads()
    cfg = settings(tmp_path, default_hooks={"checkpoint": {"interval": 1}}, custom_hooks=[hook], on_save_error="warn")
    Runner(**cfg).train()
    complete = [("epoch_1.pth", True, True), ("epoch_2.pth", False, False), ("epoch_3.pth", True, True)]
    assert hook.seen == [*complete, complete[-1]]  # the last one is saved again at the end of the run


def test_error_of_a_hook_that_is_told_of_a_save_ends_the_run(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path, on_save_error="warn"))

    def upload(runner: Runner, saved: Saved) -> None:
        raise ValueError("upload")

    runner.on("after_save_checkpoint", upload)
    with pytest.raises(ValueError, match="upload"):
        runner.train()


def test_saved_checkpoint_may_be_moved(tmp_path: Path) -> None:
    hooks = {"checkpoint": {"interval": 1, "max_keep_ckpts": 2}}
    runner = Runner(**settings(tmp_path / "run", default_hooks=hooks, on_save_error="stop"))
    (tmp_path / "archive").mkdir()
    move = lambda runner, saved: os.replace(saved.path, tmp_path / "archive" / Path(saved.path).name)  # noqa: E731
    runner.on("after_save_checkpoint", move)
    runner.train()
    assert names(tmp_path / "archive") == ["epoch_1", "epoch_2", "epoch_3"]


def test_save_after_a_failed_hook_has_the_position_before_it(tmp_path: Path) -> None:
    """The hooks that follow, such as the schedule's, have not run."""
    runner = Runner(**settings(tmp_path))

    def fail(runner: Runner) -> None:
        raise ValueError("hook")

    runner.on("after_train_epoch", fail)
    with pytest.raises(ValueError, match="hook"):
        runner.train()
    assert (runner.completed.iter, runner.completed.epoch) == (4, 0)


def test_resumed_run_does_not_keep_the_checkpoint_in_memory(tmp_path: Path) -> None:
    Runner(**settings(tmp_path)).train()
    runner = Runner(**settings(tmp_path), resume=True)
    runner.build_training()
    runner.load_or_resume()
    assert type(runner.saver.last) is str
    assert runner.checkpoints.report is not None
    assert type(runner.checkpoints.report.source) is str


def test_training_stops_if_on_save_error_is_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 2)
    with pytest.raises(CheckpointError, match="epoch_2.pth': No space left"):
        run(tmp_path, "stop")
    assert names(tmp_path) == ["epoch_1"]


class UntilSaved(Hook):
    """Makes a save last into the next iteration, which ends after it."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == 3:
            self.begun.set()
            for thread in threading.enumerate():
                if thread.name == "footplate-checkpoint":
                    thread.join(60)


@pytest.mark.parametrize(("policy", "done"), [("stop", 4), ("warn", 20)])
def test_training_stops_with_the_iteration_in_which_a_save_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, done: int
) -> None:
    """Training does not continue until the next save."""
    disk, hook = Disk(monkeypatch, 1), UntilSaved()

    def commit(plain: Any, path: str) -> None:
        hook.begun.wait(60)
        disk(plain, path)

    monkeypatch.setattr(saver, "commit_checkpoint", commit)
    hooks = {"logger": None, "checkpoint": {"by_epoch": False, "interval": 3}}
    cfg = settings(tmp_path, default_hooks=hooks, train_cfg={"max_epochs": 5}, on_save_error=policy)
    runner = Runner(**cfg, custom_hooks=[hook])
    with pytest.raises(CheckpointError, match="iter_3.pth") if policy == "stop" else contextlib.nullcontext():
        runner.train()
    assert runner.iter == done


def test_best_checkpoint_is_the_existing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 2, 3)
    told = {"type": "Told", "values": {"acc": [1.0, 2.0, 5.0, 4.0, 3.0]}}
    hooks = {"logger": None, "checkpoint": {"interval": -1, "save_last": False, "save_best": "acc"}}
    cfg = settings(tmp_path, default_hooks=hooks, train_cfg={"max_epochs": 5}, val_evaluator=told)
    runner = Runner(**cfg)
    runner.train()
    assert names(tmp_path) == ["best_acc_epoch_4"]
    best = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook)).state_dict()["best"]
    assert best == {"acc": [{"score": 4.0, "path": str(tmp_path / "best_acc_epoch_4.pth")}]}
    assert runner.message_hub.get_info("best_score") == 4.0


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes saves slow. Returns the list to which each of them adds the name of its thread."""
    found: list[str] = []
    commit = saver.commit_checkpoint

    def slow(plain: Any, path: str) -> None:
        found.append(threading.current_thread().name)
        threading.Event().wait(0.3)
        commit(plain, path)

    monkeypatch.setattr(saver, "commit_checkpoint", slow)
    return found


def test_run_waits_for_its_saves_at_the_end(tmp_path: Path, threads: list[str]) -> None:
    run(tmp_path, interval=-1)
    assert (names(tmp_path), set(threads)) == (["epoch_5"], {"footplate-checkpoint"})
    assert os.path.exists(tmp_path / "last_checkpoint")


def test_error_of_a_hook_is_not_one_of_the_folder(tmp_path: Path) -> None:
    class Uploads(Hook):
        def after_save_checkpoint(self, runner: Run, saved: Saved) -> None:
            raise OSError("the server is down")

    with pytest.raises(OSError, match="the server is down"):
        Runner(**settings(tmp_path, custom_hooks=[Uploads()])).train()


def test_checkpoint_that_cannot_be_removed_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: str) -> None:
        raise CheckpointError(f"cannot remove '{path}'")

    monkeypatch.setattr("footplate.hooks.checkpoint_hook.remove_checkpoint", refuse)
    assert run(tmp_path).epoch == 5
    assert "The checkpoint was saved, but updating its folder failed: cannot remove" in caplog.text
    with pytest.raises(CheckpointError, match="cannot remove"):
        run(tmp_path / "stop", "stop")


def test_error_of_the_run_is_not_replaced_by_that_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def fail_late(plain: Any, path: str) -> None:
        failed.wait(60)
        raise CheckpointError("no space left")

    class Fails(Hook):
        def before_train_epoch(self, runner: Run) -> None:
            if runner.epoch == 1:
                failed.set()
                raise ZeroDivisionError

    monkeypatch.setattr(saver, "commit_checkpoint", fail_late)
    with pytest.raises(ZeroDivisionError):
        Runner(**settings(tmp_path, custom_hooks=[Fails()], on_save_error="stop")).train()
