import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook
from footplate.engine.altering import altered_by
from footplate.engine.phase import Phase
from tests.engine.test_signals import Draw, Send, in_process
from tests.engine.test_state import assert_same, config, run, state
from tests.support import Witness


class Halves(Hook):
    """Halves all weights during validation, without special handling of checkpoints."""

    def before_val_epoch(self, runner: Any) -> None:
        self.held = {name: value.clone() for name, value in runner.model.state_dict().items()}
        for parameter in runner.model.parameters():
            parameter.data.mul_(0.5)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        runner.model.load_state_dict(self.held)


class ByPointer(Halves):
    """Like `Halves`, but replaces the tensors of the model."""

    def before_val_epoch(self, runner: Any) -> None:
        self.own = {name: value.data for name, value in runner.model.named_parameters()}
        for parameter in runner.model.parameters():
            parameter.data = parameter.data * 0.5

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        for name, parameter in runner.model.named_parameters():
            parameter.data = self.own[name]


@pytest.mark.parametrize("by_epoch", [True, False])
@pytest.mark.parametrize("kind", [Halves, ByPointer])
def test_a_stop_waits_for_weights_to_be_put_back(tmp_path: Path, kind: type[Hook], by_epoch: bool) -> None:
    settings: dict[str, Any] = {"by_epoch": by_epoch, "by_iteration": 3}
    whole = run(config(tmp_path / "whole", **settings), kind(), Draw())
    cfg = config(tmp_path / "told", **settings)
    assert in_process(run, cfg, kind(), Draw(), Send(signal.SIGTERM, "before_val_iter", 8)) == 143
    witness = Witness()
    resumed = run(cfg, kind(), Draw(), witness, resume=True)
    assert [each for each, _ in witness.when("before_val")] == [12]  # the validation of iteration 8 was completed
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert_same(state(tmp_path / "told/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))


def test_a_wish_to_save_waits_too(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"by_epoch": True, "by_iteration": 3}
    whole = run(config(tmp_path / "whole", **settings), Halves())
    told = Send(signal.SIGUSR1, "before_val_iter", 4)
    asked = run(config(tmp_path / "told", **settings), Halves(), told)
    assert_same(asked.model.state_dict(), whole.model.state_dict())
    assert not asked.requests.must_finish_evaluation  # training does not wait for slow data
    again: dict[str, Any] = {"resume": True, "load_from": str(tmp_path / "told/on_signal.pth")}
    resumed = run(config(tmp_path / "again", **settings), Halves(), **again)
    assert_same(resumed.model.state_dict(), whole.model.state_dict())


def test_a_hook_that_changes_nothing_keeps_nobody_waiting(tmp_path: Path) -> None:
    class Looks(Hook):
        def before_val_epoch(self, runner: Any) -> None:
            self.seen = runner.phase

    looks = Looks()
    runner = run(config(tmp_path, by_epoch=True), looks)
    assert looks.seen is Phase.EVALUATION
    assert not altered_by(runner, "before_val", "before_val_epoch")
    runner.register_hook(Halves())
    assert altered_by(runner, "before_val", "before_val_epoch")
    assert not altered_by(runner, "before_val")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_weights_of_any_kind_are_compared(tmp_path: Path, dtype: torch.dtype) -> None:
    runner = run(config(tmp_path, by_epoch=True))
    for parameter in runner.model.parameters():
        parameter.data = torch.full_like(parameter, 6e4, dtype=dtype)  # its square overflows in half precision
    runner.register_hook(Halves())
    assert altered_by(runner, "before_val", "before_val_epoch")


class Zeroes(Hook):
    """Clears a buffer during validation."""

    def before_val_epoch(self, runner: Any) -> None:
        runner.model.kept.copy_(torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.int64, torch.bool])
def test_buffers_whose_kind_has_no_norm_are_compared(tmp_path: Path, dtype: torch.dtype) -> None:
    runner = run(config(tmp_path, by_epoch=True))
    runner.model.register_buffer("kept", torch.ones(3).to(dtype))
    runner.register_hook(Zeroes())
    assert altered_by(runner, "before_val_epoch")


def test_data_that_take_their_time_are_waited_for(tmp_path: Path) -> None:
    """The signal arrives while a sample is read, when a run would otherwise stop immediately."""
    cfg = config(tmp_path, by_epoch=True, by_iteration=3)
    cfg["val_dataloader"]["dataset"].update(type="Slow", reads=str(tmp_path / "reads"), at=11, seconds=0.5)
    (tmp_path / "reads").touch()
    assert in_process(run, cfg, Halves()) == 143
    saved = torch.load(tmp_path / "on_signal.pth", weights_only=True)
    assert saved["run"]["loop"]["validated_at"] == saved["run"]["loop"]["epoch"] == 2
    assert saved["meta"]["iter"] == 9
