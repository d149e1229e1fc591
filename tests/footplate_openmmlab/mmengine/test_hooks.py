"""Averages as code bases define them: `avg_func`, and an `EMAHook` that overrides `after_load_checkpoint`."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Run, Runner
from footplate.checkpoint import load_checkpoint
from footplate_openmmlab.mmengine.hooks import EMAHook
from tests.footplate.hooks.runs import Seen, configured


class Swapping(EMAHook):
    """Validates with the average and loads it, in the way of MMPretrain's hook."""

    loaded = False

    def before_val_epoch(self, runner: Run) -> None:
        self._swap_ema_parameters()

    def after_val_epoch(self, runner: Runner) -> None:  # type: ignore[override]
        self._swap_ema_parameters()

    def after_load_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        assert self.ema_model is not None
        assert self.src_model is runner.model
        if "ema_state_dict" in checkpoint:
            self._swap_ema_state_dict(checkpoint)
            self.ema_model.load_state_dict(checkpoint["ema_state_dict"], strict=self.strict_load)
            assert isinstance(runner, Runner)
            self.loaded = not runner.resume_plan.resume

    def before_train(self, runner: Run) -> None:
        super().before_train(runner)
        if self.loaded:
            assert self.ema_model is not None
            self.src_model.load_state_dict(self.ema_model.module.state_dict())


def train(folder: Path, **changes: Any) -> tuple[Runner, Swapping, Seen]:
    hook, seen = Swapping(momentum=0.1), Seen()
    runner = configured(folder, hook, seen, **changes)
    runner.train()
    return runner, hook, seen


def test_subclass_that_restores_the_average_resumes_exactly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner, _, seen = train(tmp_path / "whole")
    resumed, hook, again = train(tmp_path / "again", load_from=str(tmp_path / "whole/epoch_1.pth"), resume=True)
    assert (runner.iter, resumed.iter) == (9, 9)
    assert seen.validated[-len(again.validated) :] == again.validated
    assert not hook.loaded
    assert "averaged weights" not in caplog.text
    whole, last = (load_checkpoint(str(tmp_path / name / "epoch_3.pth")) for name in ("whole", "again"))
    assert whole["state_dict"] == last["state_dict"]
    assert whole["ema_state_dict"] == last["ema_state_dict"]
    assert last["ema_state_dict"]["module.weight"].item() == 9.0
    assert last["state_dict"]["weight"].item() < 9.0


def test_run_that_starts_from_a_checkpoint_with_an_average_begins_with_the_average(tmp_path: Path) -> None:
    weights = {"state_dict": {"weight": torch.ones(1)}, "ema_state_dict": {"module.weight": torch.full((1,), 2.0)}}
    torch.save({**weights, "meta": {}}, tmp_path / "start.pth")  # the average is 1
    hook = Swapping(momentum=0.1, strict_load=False)
    runner = configured(tmp_path, hook, load_from=str(tmp_path / "start.pth"), max_epochs=1)
    started: list[float] = []
    runner.on("before_train_iter", lambda *_, **__: started.append(runner.model.weight.item()), priority="VERY_LOW")
    runner.train()
    assert started[0] == 1.0


class Extended(EMAHook):
    def after_load_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        super().after_load_checkpoint(runner, checkpoint)


def test_average_of_a_subclass_starts_with_the_loaded_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.full((1,), 7.0)}, "meta": {}}, tmp_path / "start.pth")
    hook, seen = Extended(ema_type="StochasticWeightAverage"), Seen()
    configured(tmp_path, hook, seen, load_from=str(tmp_path / "start.pth")).val()
    assert hook.ema_model is not None
    assert hook.ema_model.module.weight.item() == 7.0
    assert set(seen.validated) == {7.0}
