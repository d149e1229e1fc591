"""A checkpoint includes the changes of all hooks of its iteration, epoch or validation."""

from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint
from footplate.engine import ValLoop
from footplate.registry import LOOPS
from tests.footplate.engine.resumed_runs import assert_same, run_until_killed, state
from tests.support import Counter, KillForTest, settings


def train(work_dir: Path, *hooks: Hook, by_epoch: bool = True, priority: Any = None, **changes: Any) -> Runner:
    saves = {"by_epoch": by_epoch, "interval": 1 if by_epoch else 4, "save_best": "accuracy"}
    cfg = settings(work_dir, by_epoch=by_epoch, default_hooks={"logger": None, "checkpoint": saves}, **changes)
    runner = Runner(**cfg)
    for hook in hooks:
        runner.register_hook(hook, priority)
    runner.train()
    return runner


def counts(path: Path) -> dict[str, int]:
    found: dict[str, int] = load_checkpoint(str(path))["run"]["hooks"]["Counter"]
    return found


@pytest.mark.parametrize("priority", ["HIGHEST", "LOWEST"])
@pytest.mark.parametrize("by_epoch", [True, False])
def test_checkpoint_contains_the_changes_of_hooks_at_the_same_event(
    tmp_path: Path, by_epoch: bool, priority: str
) -> None:
    events = ("after_train_iter", "after_train_epoch", "after_val_epoch", "after_val")
    train(tmp_path, Counter(*events), by_epoch=by_epoch, priority=priority)
    regular = tmp_path / ("epoch_2.pth" if by_epoch else "iter_8.pth")
    assert list(counts(regular).values()) == [8, 2 if by_epoch else 0, 1, 1]
    best = next(tmp_path.glob("best_accuracy_*.pth"))
    place = int(best.stem.rpartition("_")[2])
    number = place if by_epoch else place // 4
    assert list(counts(best).values()) == [4 * number, number if by_epoch else 0, number, number]


@pytest.mark.parametrize("by_epoch", [True, False])
def test_average_of_the_lowest_priority_resumes_bit_exactly(tmp_path: Path, by_epoch: bool) -> None:
    cfg = settings(tmp_path / "killed", by_epoch=by_epoch, model={"type": "ToyModel", "dropout": 0.2})
    cfg["custom_hooks"] = [{"type": "EMAHook", "momentum": 0.1, "priority": "LOWEST"}]
    run_until_killed(cfg, KillForTest(8, by_epoch))
    Runner(**cfg, resume=True).train()
    Runner(**{**cfg, "work_dir": str(tmp_path / "whole")}).train()
    name = "epoch_3.pth" if by_epoch else "iter_12.pth"
    assert_same(state(tmp_path / "killed" / name), state(tmp_path / "whole" / name))


@LOOPS.register_module()
class CurtValLoop(ValLoop):
    """Calls only one event at the end."""

    def run(self) -> dict[str, float]:
        self.runner.call_hook("after_val_epoch", metrics={"accuracy": 1.0})
        return {}


def test_custom_validation_loop_need_not_call_after_val(tmp_path: Path) -> None:
    train(tmp_path, val_cfg={"type": "CurtValLoop"})
    assert [each.name for each in tmp_path.glob("best_*.pth")] == ["best_accuracy_epoch_1.pth"]


class Saver(Hook):
    """Saves a checkpoint in one of its events."""

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == 1:
            runner.save_checkpoint(runner.work_dir, "own.pth")
            assert (Path(runner.work_dir) / "own.pth").exists()


def test_hook_that_saves_by_itself_saves_at_once(tmp_path: Path) -> None:
    train(tmp_path, Saver(), Counter("after_train_iter"))
    assert counts(tmp_path / "own.pth") == {"after_train_iter": 1}
    assert load_checkpoint(str(tmp_path / "own.pth"))["run"]["loop"]["iter"] == 2
