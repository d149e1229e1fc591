import hashlib
import math
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint, saver
from footplate.engine import EpochBasedTrainLoop
from footplate.engine.values.hook import FunctionHook
from footplate.errors import ArgumentError
from footplate.hooks import CheckpointHook, SyncBuffersHook
from tests.support import Witness, settings


def epochs(number: int) -> dict[str, Any]:
    return {"by_epoch": True, "max_epochs": number}


def iterations(number: int) -> dict[str, Any]:
    return {"by_epoch": False, "max_iters": number, "val_interval": 5}


def run(tmp_path: Path, train_cfg: dict[str, Any], **changes: Any) -> tuple[Runner, Witness]:
    of_runner = ("val_evaluator", "log_level", "work_dir", "resume")
    hook = {key: changes.pop(key) for key in list(changes) if key not in of_runner}
    witness, default_hooks = Witness(), {"logger": None, "checkpoint": hook}
    cfg = settings(tmp_path / "work", train_cfg=train_cfg, custom_hooks=[witness], default_hooks=default_hooks)
    runner = Runner(**{**cfg, **changes})
    runner.train()
    return runner, witness


def names(tmp_path: Path) -> str:
    return " ".join(sorted(each.stem for each in (tmp_path / "work").glob("*.pth")))


# Files, and the completed iterations when they are saved, with epochs of 4 iterations.
SAVED: list[tuple[dict[str, Any], dict[str, Any], str, list[int]]] = [
    (epochs(5), {"interval": 2}, "epoch_2 epoch_4 epoch_5", [8, 16, 20]),
    (epochs(5), {"interval": 1, "max_keep_ckpts": 2}, "epoch_4 epoch_5", [4, 8, 12, 16, 20]),
    (epochs(6), {"interval": 2, "save_begin": 3, "save_last": False}, "epoch_3 epoch_5", [12, 20]),
    (iterations(10), {"interval": 3, "by_epoch": False, "max_keep_ckpts": 1}, "iter_10", [3, 6, 9, 10]),
    (epochs(3), {"interval": 1, "filename_tmpl": "model_{}.pth"}, "model_1 model_2 model_3", [4, 8, 12]),
]


@pytest.mark.parametrize(("train_cfg", "hook", "files", "moments"), SAVED)
def test_saves_at_intervals(
    tmp_path: Path, train_cfg: dict[str, Any], hook: dict[str, Any], files: str, moments: list[int]
) -> None:
    _, witness = run(tmp_path, train_cfg, **hook)
    assert names(tmp_path) == files
    end = witness.when("after_train")[0][0]
    repeated = [end] if moments[-1] == end else []  # the final checkpoint is written a second time
    assert [at for at, _ in witness.when("before_save_checkpoint")] == moments + repeated


class LoopOfUser(EpochBasedTrainLoop):
    """May change the model after the hooks of the last epoch."""


NO_VALIDATION: dict[str, Any] = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
# A second write of the final checkpoint contains what has changed since the first one.
WRITTEN: list[tuple[dict[str, Any], list[Hook], list[str]]] = [
    ({"train_cfg": epochs(2), **NO_VALIDATION}, [], ["epoch_1", "epoch_2"]),
    ({"train_cfg": {"by_epoch": False, "max_iters": 5}, **NO_VALIDATION}, [], ["iter_2", "iter_4", "iter_5"]),
    ({"train_cfg": epochs(1), **NO_VALIDATION}, [SyncBuffersHook()], ["iter_2", "iter_4"]),
    ({"train_cfg": epochs(2)}, [], ["epoch_1", "epoch_2", "epoch_2"]),
    ({"train_cfg": epochs(1), **NO_VALIDATION}, [FunctionHook("after_train", id)], ["epoch_1", "epoch_1"]),
    ({"train_cfg": {"type": LoopOfUser, "max_epochs": 1}, **NO_VALIDATION}, [], ["epoch_1", "epoch_1"]),
]


@pytest.mark.parametrize(("changes", "hooks", "files"), WRITTEN)
def test_final_checkpoint_is_written_once_unless_the_state_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], hooks: list[Hook], files: list[str]
) -> None:
    written: list[tuple[str, bool]] = []
    commit = saver.commit_checkpoint

    def commit_and_count(state: Any, path: str) -> None:
        commit(state, path)
        written.append((Path(path).stem, state["run"]["loop"]["ended"]))

    monkeypatch.setattr(saver, "commit_checkpoint", commit_and_count)
    hook = {"interval": 1} if files[0].startswith("epoch") else {"interval": 2, "by_epoch": False}
    cfg = settings(tmp_path, custom_hooks=hooks, default_hooks={"checkpoint": hook}, **changes)
    Runner(**cfg).train()
    assert written == [(name, False) for name in files[:-1]] + [(files[-1], True)]
    witness = Witness()
    runner = Runner(**{**cfg, "custom_hooks": [witness]}, resume=True)
    runner.train()
    assert [event for event, *_ in witness.seen] == ["after_load_checkpoint"]  # it knows that the run has ended
    assert len(written) == len(files)


def test_a_run_whose_final_save_has_started_ends_despite_a_signal(tmp_path: Path) -> None:
    """A resumed run would not call the `after_run` hooks, because its checkpoint has the mark for the end."""
    runner, ended = Runner(**settings(tmp_path, train_cfg=epochs(1), **NO_VALIDATION)), list[int]()
    runner.on("after_train_epoch", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    runner.on("after_run", lambda runner: ended.append(runner.iter))
    runner.train()
    assert ended == [4]


def test_only_the_training_loop_changes_what_belongs_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It follows a save after the next iteration. The pointer is written at once, for a run that is killed before."""
    commit, may_save, seen = saver.commit_checkpoint, threading.Event(), list[Any]()

    def wait_and_commit(state: Any, path: str) -> None:
        assert "epoch_2" not in path or may_save.wait(60)
        commit(state, path)

    def see(runner: Runner) -> None:
        if runner.iter in (8, 9):
            may_save.set()
            for thread in threading.enumerate():
                if thread.name == "footplate-checkpoint":
                    thread.join()
            pointer = Path((tmp_path / "work/last_checkpoint").read_text()).stem
            seen.append((names(tmp_path), pointer, Path(runner.message_hub.get_info("last_ckpt")).stem))

    monkeypatch.setattr(saver, "commit_checkpoint", wait_and_commit)
    hook, train_cfg = {"interval": 1, "max_keep_ckpts": 1}, {**epochs(3), "val_interval": 10}
    runner = Runner(**settings(tmp_path / "work", train_cfg=train_cfg, default_hooks={"checkpoint": hook}))
    runner.on("before_train_iter", see)
    runner.train()
    assert seen == [("epoch_1 epoch_2", "epoch_2", "epoch_1"), ("epoch_2", "epoch_2", "epoch_2")]


def test_checkpoints_in_out_dir(tmp_path: Path) -> None:
    run(tmp_path, epochs(2), interval=1, out_dir=str(tmp_path / "out"), save_best="accuracy")
    assert {each.name for each in (tmp_path / "out/work").iterdir()} >= {"epoch_1.pth", "epoch_2.pth"}
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "out/work/epoch_2.pth")
    assert names(tmp_path) == ""
    assert len(list((tmp_path / "out/work").glob("best_accuracy_epoch_*.pth"))) == 1


def test_save_on_request_goes_to_the_folder_of_the_first_hook(tmp_path: Path) -> None:
    other = {"type": "CheckpointHook", "interval": 1, "out_dir": str(tmp_path / "out")}
    runner = Runner(**settings(tmp_path / "work", custom_hooks=[other]))
    runner.on("before_train_epoch", lambda runner: runner.requests.request_save())
    runner.train()
    assert {each.name for each in (tmp_path / "out/work").iterdir()} == {"epoch_1.pth", "epoch_2.pth", "epoch_3.pth"}
    assert (tmp_path / "work/on_signal.pth").exists()


def told(**values: list[float]) -> dict[str, Any]:
    return {"type": "Told", "values": values}


BEST: list[tuple[dict[str, Any], dict[str, list[float]], str]] = [
    ({"save_best": "x", "rule": "greater"}, {"x": [math.nan, 3, 2, math.nan]}, "best_x_epoch_2"),
    ({"save_best": "auto"}, {"loss_a": [3, 1, 2, 4], "acc": [1, 1, 9, 1]}, "best_loss_a_epoch_2"),
    (  # MMDetection's CocoMetric reports the classes first
        {"save_best": "auto"},
        {"cat_precision": [1, 9, 1, 1], "bbox_mAP": [1, 1, 9, 1]},
        "best_bbox_mAP_epoch_3",
    ),
    (
        {"save_best": ["acc", "x"], "rule": ["less", "greater"]},
        {"acc": [1, 3, 2, 0], "x": [4, 3, 2, 5]},
        "best_acc_epoch_4 best_x_epoch_4",
    ),
    ({"save_best": "coco/bbox_mAP", "interval": 1}, {"coco/bbox_mAP": [1, 2, 0, 0]}, "best_coco_bbox_mAP_epoch_2"),
    ({"save_best": "x", "less_keys": ["y", "x"]}, {"x": [1, 2, 0, 0]}, "best_x_epoch_3"),
]


@pytest.mark.parametrize(("hook", "values", "files"), BEST)
def test_best_checkpoint_is_kept(
    tmp_path: Path, hook: dict[str, Any], values: dict[str, list[float]], files: str
) -> None:
    run(tmp_path, epochs(4), val_evaluator=told(**values), save_last=False, max_keep_ckpts=1, **hook)
    regular = " epoch_4" if hook.get("interval") == 1 else ""
    assert names(tmp_path) == files + regular


def test_auto_keeps_its_metric_after_a_resume(tmp_path: Path) -> None:
    run(tmp_path, epochs(1), val_evaluator=told(loss_a=[3], acc=[1]), save_best="auto")
    run(tmp_path, epochs(2), val_evaluator=told(acc=[9], loss_a=[5]), save_best="auto", resume=True)

    late = {"val_evaluator": told(acc=[9]), "save_best": "auto"}
    run(tmp_path / "late", epochs(1) | {"val_begin": 2}, **late)  # without a validation
    run(tmp_path / "late", epochs(2) | {"val_begin": 2}, **late, resume=True)
    assert names(tmp_path / "late") == "best_acc_epoch_2 epoch_1 epoch_2"
    assert names(tmp_path) == "best_loss_a_epoch_1 epoch_1 epoch_2"


def test_previous_best_is_removed_after_the_new_one_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(path: str) -> None:
        seen.append(names(tmp_path))
        Path(path).unlink()

    monkeypatch.setattr("footplate.hooks.checkpoint_hook.remove_checkpoint", look)
    run(tmp_path, epochs(2), val_evaluator=told(acc=[1, 2]), save_best="acc", interval=1, max_keep_ckpts=1)
    assert seen == ["best_acc_epoch_1 epoch_1 epoch_2", "best_acc_epoch_1 best_acc_epoch_2 epoch_2"]


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"interval": 0}, "interval"),
        ({"save_best": ["a", "b", "acc"], "rule": ["less", "less"]}, "rule"),
        ({"save_best": ["auto", "acc"]}, "save_best"),
        ({"filename_tmpl": "{}/{}.pth"}, "filename_tmpl"),
    ],
)
def test_invalid_arguments(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        CheckpointHook(**arguments)
    assert caught.value.key == key


class StopMidEpoch(Hook):
    """Ends training in the second epoch, like a time limit."""

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == 5:
            runner.requests.local.time_limit = True


@pytest.mark.parametrize(("hooks", "last"), [([], "epoch_2"), ([StopMidEpoch()], "epoch_1")])
def test_published_files_have_the_published_keys(tmp_path: Path, hooks: list[Hook], last: str) -> None:
    saving = {"interval": 1, "published_keys": ["state_dict", "meta"], "save_best": "acc"}
    cfg = settings(tmp_path / "work", train_cfg=epochs(2), custom_hooks=hooks, val_evaluator=told(acc=[2, 1]))
    Runner(**{**cfg, "default_hooks": {"checkpoint": saving}}).train()
    published = {each.stem.rpartition("-")[0]: each for each in (tmp_path / "work").glob("*-????????.pth")}
    assert set(published) == {last, "best_acc_epoch_1"}
    for stem, path in published.items():
        read = torch.load(path, weights_only=True)
        whole = load_checkpoint(str(tmp_path / f"work/{stem}.pth"))
        assert {"state_dict", "meta"} == {key for key in read if key in whole}
        for name, value in whole["state_dict"].items():
            assert torch.equal(read["state_dict"][name], value)
        assert path.stem.rpartition("-")[2] == hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert not list((tmp_path / "work").glob("*published*"))


def _told(folder: Path, epochs_: int, *values: float, **changes: Any) -> Runner:
    hook = {"interval": 1, "max_keep_ckpts": 1, "save_best": "acc", "rule": "greater", "published_keys": ["state_dict"]}
    cfg = settings(folder, train_cfg=epochs(epochs_), default_hooks={"logger": None, "checkpoint": hook})
    runner = Runner(**{**cfg, "val_evaluator": {"type": "Told", "values": {"acc": list(values)}}, **changes})
    runner.train()
    return runner


def _held(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


def test_best_score_of_another_folder_counts_and_its_files_are_kept(tmp_path: Path) -> None:
    _told(tmp_path / "one", 2, 1.0, 5.0)
    before = _held(tmp_path / "one")
    again: dict[str, Any] = {"load_from": str(tmp_path / "one/epoch_2.pth"), "resume": True}
    _told(tmp_path / "two", 4, 3.0, 6.0, **again)  # only 6 is better than the 5 of the other folder
    assert _held(tmp_path / "one") == before
    assert {each.partition("-")[0] for each in _held(tmp_path / "two")} == {
        *("best_acc_epoch_4", "best_acc_epoch_4.pth", "epoch_4", "epoch_4.pth", "last_checkpoint")
    }


@pytest.mark.parametrize(("save_best", "suffix"), [("acc", ""), ("auto", ""), (["acc", "loss"], "_acc")])
def test_best_score_of_an_mmengine_run_counts(tmp_path: Path, save_best: Any, suffix: str) -> None:
    run(tmp_path, epochs(2), interval=1)
    path, best = tmp_path / "work/epoch_2.pth", tmp_path / "work/best_acc_epoch_2.pth"
    checkpoint = load_checkpoint(str(path))
    info = {f"best_score{suffix}": 5.0, f"best_ckpt{suffix}": str(best)}  # where MMEngine keeps them
    hub = {"log_scalars": {}, "runtime_info": info}
    for file in (path, best):
        torch.save({"message_hub": hub, **{key: checkpoint[key] for key in ("meta", "state_dict")}}, file)
    saved = []
    for end, score in (3, 4.0), (4, 6.0):
        values = told(acc=[score], loss=[1.0])
        run(tmp_path, epochs(end), val_evaluator=values, save_best=save_best, interval=1, resume=True)
        saved.append([name for name in names(tmp_path).split() if name.startswith("best_acc")])
    assert saved == [["best_acc_epoch_2"], ["best_acc_epoch_2", "best_acc_epoch_4"]]  # MMEngine's file is kept


def test_resumed_copy_does_not_change_the_original(tmp_path: Path) -> None:
    _told(tmp_path / "one", 2, 1.0, 2.0)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    before = _held(tmp_path / "one")
    _told(tmp_path / "two", 3, 3.0, resume=True)
    assert _held(tmp_path / "one") == before
    left = {each for each in _held(tmp_path / "two") if "-" not in each}
    assert left == {"best_acc_epoch_3.pth", "epoch_3.pth", "last_checkpoint"}


@pytest.mark.parametrize("saving", [{"save_best": "acc"}, {"save_best": ["acc", "loss"], "sharded": True}])
def test_best_checkpoints_of_an_abandoned_branch_are_replaced(
    tmp_path: Path, saving: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    suffix = "sharded" if "sharded" in saving else "pth"
    saving |= {"interval": 1, "published_keys": ["state_dict"]}
    run(tmp_path, epochs(4), val_evaluator=told(acc=[0.5, 0.4, 0.9, 0.7], loss=[1, 2, 0.5, 3]), **saving)
    caplog.clear()
    cfg = settings(tmp_path / "work", train_cfg=epochs(5), default_hooks={"logger": None, "checkpoint": saving})
    cfg |= {"val_evaluator": told(acc=[0.4, 0.3, 0.3, 0.2], loss=[5, 6, 4, 6]), "log_level": "INFO"}
    runner = Runner(**cfg, load_from=str(tmp_path / f"work/epoch_2.{suffix}"), resume=True)
    runner.train()
    path = tmp_path / f"work/best_acc_epoch_1.{suffix}"
    level = next(record.levelname for record in caplog.records if f"The best checkpoint '{path}'" in record.message)
    assert level == "INFO"  # the run itself has replaced it
    best = {"acc": (0.4, 2)} | ({"loss": (4.0, 4)} if suffix == "sharded" else {})
    hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
    paths = {metric: f"{tmp_path}/work/best_{metric}_epoch_{epoch}.{suffix}" for metric, (_, epoch) in best.items()}
    ranked = {metric: [{"score": score, "path": paths[metric]}] for metric, (score, _) in best.items()}
    assert hook.state_dict()["best"] == ranked
    assert runner.message_hub.get_info("best_ckpt") == paths["acc"]
    left = [str(path) for path in (tmp_path / "work").glob(f"best_*.{suffix}") if "-" not in path.name]
    assert sorted(left) == sorted(paths.values())


def test_metrics_with_the_same_file_name_keep_their_files(tmp_path: Path) -> None:
    values = told(**{"a/b": [3.0, 4.0, 1.0], "a_b": [3.0, 1.0, 2.0]})
    run(tmp_path, epochs(3), val_evaluator=values, save_best=["a/b", "a_b"], rule="greater", save_last=False)
    assert names(tmp_path) == "best_a_b_epoch_1 best_a_b_epoch_2"


def test_iteration_based_run_is_saved_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, iterations(10), interval=2)
    assert names(tmp_path) == "iter_10"
    assert [each for each in caplog.messages if "counts epochs" in each]
