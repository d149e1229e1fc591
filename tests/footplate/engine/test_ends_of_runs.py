"""A resumed run completes what a stopped run had left after its last iteration: validation, hook events, saves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate import Hook
from footplate.checkpoint import load_checkpoint
from footplate.engine.control.requests import Interrupted
from tests.faults.runs import first_difference, outcome
from tests.footplate.engine.killed_runs import KilledError, ask, kill
from tests.footplate.engine.resumed_runs import assert_same, config, run, state
from tests.support import Counter, Witness

COUNTED = ("after_train_iter", "after_train_epoch", "before_val", "after_val_iter", "after_val", "after_train")
NO_VALIDATION: dict[str, Any] = {"val_dataloader": None, "val_cfg": None, "val_evaluator": None}
LAST = {True: "epoch_3.pth", False: "iter_12.pth"}


class StopAt(Hook):
    """Stops a run at an event after, or in, its last iteration."""

    priority = "LOWEST"

    def __init__(self, event: str, stop: Callable[[], None]) -> None:
        setattr(self, event, lambda runner, **arguments: stop() if runner.iter >= 11 else None)


def section(work_dir: Path, by_epoch: bool, validates: bool, **checkpoint: Any) -> dict[str, Any]:
    cfg = config(work_dir, by_epoch=by_epoch, by_iteration=0 if by_epoch else 4)
    cfg["default_hooks"]["checkpoint"] |= {"save_best": "accuracy" if validates else None, **checkpoint}
    return cfg if validates else {**cfg, **NO_VALIDATION}


@pytest.mark.parametrize(
    ("event", "stop", "validates", "by_epoch"),
    [
        ("after_train_iter", ask, False, False),
        ("after_train_iter", kill, True, True),
        ("before_val", kill, True, False),
        ("after_val_iter", ask, True, True),
        ("after_val_iter", kill, True, False),
        ("after_train", kill, False, True),
    ],
)
def test_resumed_run_completes_the_work_after_the_last_iteration(
    tmp_path: Path, event: str, stop: Callable[[], None], validates: bool, by_epoch: bool
) -> None:
    whole = run(section(tmp_path / "whole", by_epoch, validates), Counter(*COUNTED))
    cfg = section(tmp_path / "stopped", by_epoch, validates)
    with pytest.raises(Interrupted if stop is ask else KilledError):
        run(cfg, Counter(*COUNTED), StopAt(event, stop))
    resumed = run(cfg, Counter(*COUNTED), resume=True)
    assert first_difference(outcome(whole), outcome(resumed)) == ""
    assert_same(state(tmp_path / "stopped" / LAST[by_epoch]), state(tmp_path / "whole" / LAST[by_epoch]))
    assert (tmp_path / "stopped/last_checkpoint").read_text() == str(tmp_path / "stopped" / LAST[by_epoch])
    again = Witness()
    run(cfg, Counter(*COUNTED), again, resume=True)
    assert [event for event, _, _ in again.seen] == ["after_load_checkpoint"]


def test_resumed_run_publishes_the_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = section(tmp_path, True, True, published_keys=["meta", "state_dict"], save_best=None)
    with monkeypatch.context() as patch:
        patch.setattr("footplate.hooks.checkpoint_hook.CheckpointHook._publish", lambda *arguments: kill())
        with pytest.raises(KilledError):
            run(cfg)
    run(cfg, resume=True)
    published = [each for each in tmp_path.glob("*.pth") if "-" in each.name]
    assert [each.name.split("-")[0] for each in published] == ["epoch_3"]
    assert set(load_checkpoint(published[0])) == {"meta", "state_dict"}


def test_complete_run_continues_with_a_greater_length(tmp_path: Path) -> None:
    cfg = section(tmp_path / "run", True, False)
    run({**cfg, "train_cfg": {"by_epoch": True, "max_epochs": 2}})
    with pytest.raises(KilledError):
        run(cfg, StopAt("after_train", kill), resume=True)
    assert not load_checkpoint(tmp_path / "run/epoch_3.pth")["run"]["loop"]["ended"]
    run(cfg, resume=True)
    assert load_checkpoint(tmp_path / "run/epoch_3.pth")["run"]["loop"]["ended"]
