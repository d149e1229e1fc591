"""Saves that `runner.val()` in a hook or an interrupted training has requested contain what a resume needs."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import load_checkpoint
from footplate.engine import Hook, Runner
from footplate.evaluation import BaseMetric
from footplate.registry import METRICS
from tests.support import settings


@METRICS.register_module()
class FallingScore(BaseMetric[int]):
    """A metric that is best in the first validation of the process."""

    runs = 0

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        FallingScore.runs += 1
        return {"score": 1.0 / FallingScore.runs}


def _settings(folder: Path, **changes: Any) -> dict[str, Any]:
    FallingScore.runs = 0
    checkpoint = {"interval": 1, "save_best": "score", "rule": "greater"}
    return settings(folder, val_evaluator={"type": "FallingScore"}, default_hooks={"checkpoint": checkpoint}, **changes)


def test_second_call_of_val_does_not_save_before_the_schedules_step(tmp_path: Path) -> None:
    class Validate(Hook):
        def after_train_epoch(self, runner: Any) -> None:
            if runner.epoch == 0:
                runner.val()
                runner.val()

    schedule = {"type": "MultiStepLR", "milestones": [1, 2], "by_epoch": True}
    Runner(**_settings(tmp_path, custom_hooks=[Validate()], param_scheduler=schedule)).train()
    (best,) = tmp_path.glob("best_*")
    saved = load_checkpoint(str(best))
    assert saved["meta"]["epoch"] == 1
    assert saved["param_schedulers"][0]["last_step"] == 1


def test_save_in_before_train_epoch_has_the_random_numbers_from_before_its_hooks(tmp_path: Path) -> None:
    class Draw(Hook):
        def __init__(self) -> None:
            self.drawn: list[float] = []

        def before_train_epoch(self, runner: Any) -> None:
            self.drawn.append(torch.rand(()).item())
            if runner.epoch == 1 and not runner.message_hub.get_info("has_validated"):
                runner.message_hub.update_info("has_validated", True)
                runner.val()

    whole, resumed = Draw(), Draw()
    cfg = _settings(tmp_path, train_cfg={"by_epoch": True, "max_epochs": 3, "val_interval": 9})
    Runner(**{**cfg, "custom_hooks": [whole]}).train()
    (best,) = tmp_path.glob("best_*_epoch_1*")
    again = {**cfg, "work_dir": str(tmp_path / "again"), "custom_hooks": [resumed]}
    Runner(**again, load_from=str(best), resume=True).train()
    assert resumed.drawn == whole.drawn[1:]


def test_best_checkpoint_is_saved_by_the_call_of_train_after_an_error(tmp_path: Path) -> None:
    class Fail(Hook):
        fails = True

        def after_val(self, runner: Any) -> None:
            if self.fails:
                self.fails = False
                raise RuntimeError("once")

    runner = Runner(**_settings(tmp_path, custom_hooks=[Fail()]))
    with pytest.raises(RuntimeError, match="once"):
        runner.train()
    runner.train()
    best = runner.message_hub.get_info("best_ckpt")
    assert Path(best).exists()
