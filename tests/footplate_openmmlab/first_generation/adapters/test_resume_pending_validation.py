"""A resumed first-generation run catches up on workflow phases and evaluations that were pending when it stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook as EngineHook
from footplate import Runner
from footplate.engine.control.requests import Interrupted
from footplate_openmmlab.first_generation.adapters import Hook
from tests.faults.own import OldCountingModel
from tests.faults.runs import first_difference, outcome
from tests.footplate.engine.killed_runs import KilledError, ask, kill
from tests.footplate.engine.resumed_runs import assert_same, state
from tests.footplate_openmmlab.first_generation.adapters.support import old_config
from tests.support import Counter

LAST = {True: "epoch_3.pth", False: "iter_12.pth"}


class ValidationCounter(Hook):
    """Counts the validation batches of a workflow, uses random numbers in each, and can stop the run once."""

    def __init__(self, event: str = "", at: int = 0, stop: Callable[[], None] = kill) -> None:
        self.at, self.stop, self.batches = at, stop, 0
        if event:
            setattr(self, event, lambda runner: self.stop() if runner.iter == self.at else None)

    def after_val_iter(self, runner: Any) -> None:  # type: ignore[override]
        torch.rand(1)
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]


def train(work_dir: Path, by_epoch: bool, hook: EngineHook, **changes: Any) -> Runner:
    workflow = [("train", 1 if by_epoch else 4), ("val", 1)]
    saves = {"interval": 1 if by_epoch else 4}
    cfg = old_config(work_dir, by_epoch=by_epoch, workflow=workflow, checkpoint_config=saves, auto_resume=True)
    cfg |= {"model": {"type": OldCountingModel.__name__}, "custom_hooks": [hook], **changes}
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def assert_same_end(work_dir: Path, by_epoch: bool, hook: Callable[[], EngineHook], **changes: Any) -> None:
    """Checks that the run in `work_dir`, once resumed, has the same result as an uninterrupted run."""
    whole = train(work_dir.parent / "whole", by_epoch, hook(), **changes)
    resumed = train(work_dir, by_epoch, hook(), **changes)
    assert first_difference(outcome(whole), outcome(resumed)) == ""
    assert_same(state(work_dir / LAST[by_epoch]), state(work_dir.parent / "whole" / LAST[by_epoch]))
    train(work_dir, by_epoch, ValidationCounter("before_run", resumed.iter), **changes)


@pytest.mark.parametrize(
    ("by_epoch", "event", "at", "stop"),
    [
        pytest.param(True, "after_train_iter", 11, ask, id="stopped before the last pass"),
        pytest.param(False, "before_val_iter", 8, kill, id="killed in an earlier pass"),
    ],
)
def test_resumed_run_makes_up_for_pending_workflow_validation(
    tmp_path: Path, by_epoch: bool, event: str, at: int, stop: Callable[[], None]
) -> None:
    with pytest.raises((Interrupted, KilledError)):
        train(tmp_path / "stopped", by_epoch, ValidationCounter(event, at, stop))
    assert_same_end(tmp_path / "stopped", by_epoch, ValidationCounter)


class EvaluationCounter(Counter):
    """Counts evaluations, and optionally kills the run in the last one."""

    def __init__(self, kills: bool = False) -> None:
        super().__init__("before_val")
        self.kills = kills

    def count(self, runner: Runner, event: str) -> None:
        if self.kills and runner.iter == 12:
            kill()
        super().count(runner, event)


def test_resumed_run_makes_up_for_pending_evaluation_of_eval_hook(tmp_path: Path) -> None:
    def hooks(kills: bool = False) -> list[Any]:
        loader = {
            "dataset": {"type": "OldPoints", "size": 8},
            "batch_size": 4,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "legacy_collate"},
        }
        hook = {"type": "EvalHook", "dataloader": loader, "interval": 4, "by_epoch": False}
        return [hook, EvaluationCounter(kills)]

    changes: dict[str, Any] = {"workflow": [("train", 1)]}
    with pytest.raises(KilledError):
        train(tmp_path / "stopped", False, EvaluationCounter(), **changes, custom_hooks=hooks(kills=True))
    resumed = train(tmp_path / "stopped", False, EvaluationCounter(), **changes, custom_hooks=hooks())
    assert [each.counts for each in resumed.hooks if isinstance(each, EvaluationCounter)] == [{"before_val": 3}]
