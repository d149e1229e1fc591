"""Which state a preflight and a validation leave unchanged."""

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate import Hook, Runner
from tests.footplate.engine.resumed_runs import assert_same, config, run, state
from tests.footplate.engine.signaled_runs import Draw, Send, in_process
from tests.support import Counter, ToyModel, Witness, loader, settings


class Counting(ToyModel):
    """Counts its forward passes in buffers."""

    passes: Tensor
    replaced: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.register_buffer("replaced", torch.zeros(()), persistent=False)

    def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
        self.passes += 1
        self.replaced = self.replaced + 1
        return super().forward(inputs, labels, mode)


def traces(work_dir: Path, *, preflight: bool) -> tuple[int, ...]:
    model = Counting()
    Runner(**settings(work_dir, val_dataloader=loader(8), model=model, preflight=preflight)).train()
    return int(model.passes), int(model.replaced)


def test_preflight_restores_buffers(tmp_path: Path) -> None:
    found, expected = traces(tmp_path / "with", preflight=True), traces(tmp_path / "without", preflight=False)
    assert found == expected
    assert expected[0] == 12 + 3 * 2


class CountingInValidation(Counter):
    """Has state that validations change, and requests a save or a stop during the second validation."""

    acts_last = True

    def __init__(self, number: int = 0) -> None:
        super().__init__("after_val_iter")
        self.number = number

    def count(self, runner: Any, event: str) -> None:
        super().count(runner, event)
        if self.number and self.counts[event] == 3:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(("number", "ema"), [(signal.SIGTERM, True), (signal.SIGUSR1, False)])
def test_hook_states_within_a_validation_are_not_saved(tmp_path: Path, number: int, ema: bool) -> None:
    average = [{"type": "EMAHook", "momentum": 0.1, "update_buffers": True}] if ema else []

    def run(folder: str, hook: Hook, **changes: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        runner = Runner(**settings(tmp_path / folder, model=Counting(), custom_hooks=[*average, hook], **changes))
        with nullcontext() if number == signal.SIGUSR1 or folder == "whole" or changes else pytest.raises(SystemExit):
            runner.train()
        return dict(runner.model.state_dict())

    whole = CountingInValidation()
    expected = run("whole", whole)
    first = run("cut", CountingInValidation(number))
    if number == signal.SIGUSR1:
        assert all(torch.equal(first[name], value) for name, value in expected.items())
    again = CountingInValidation()
    found = run("cut", again, load_from=str(tmp_path / "cut/on_signal.pth"), resume=True)
    assert again.counts == whole.counts == {"after_val_iter": 6}
    assert all(torch.equal(found[name], value) for name, value in expected.items())


class Halves(Hook):
    """Halves all weights during validation, without special handling of checkpoints."""

    def before_val_epoch(self, runner: Any) -> None:
        self.held = {name: value.clone() for name, value in runner.model.state_dict().items()}
        for parameter in runner.model.parameters():
            parameter.data.mul_(0.5)

    def after_val_epoch(self, runner: Any) -> None:  # type: ignore[override]
        runner.model.load_state_dict(self.held)


class ByPointer(Halves):
    """Like `Halves`, but replaces the tensors of the model."""

    def before_val_epoch(self, runner: Any) -> None:
        self.own = {name: value.data for name, value in runner.model.named_parameters()}
        for parameter in runner.model.parameters():
            parameter.data = parameter.data * 0.5

    def after_val_epoch(self, runner: Any) -> None:  # type: ignore[override]
        for name, parameter in runner.model.named_parameters():
            parameter.data = self.own[name]


@pytest.mark.parametrize(("kind", "by_epoch"), [(Halves, True), (ByPointer, False)])
def test_stop_waits_until_weights_are_restored(tmp_path: Path, kind: type[Hook], by_epoch: bool) -> None:
    settings: dict[str, Any] = {"by_epoch": by_epoch, "by_iteration": 3}
    whole = run(config(tmp_path / "whole", **settings), kind(), Draw())
    cfg = config(tmp_path / "told", **settings)
    assert in_process(run, cfg, kind(), Draw(), Send(signal.SIGTERM, "before_val_iter", 8)) == 143
    witness = Witness()
    resumed = run(cfg, kind(), Draw(), witness, resume=True)
    assert [each for each, _ in witness.when("before_val")] == [12]  # the validation of iteration 8 was completed
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert_same(state(tmp_path / "told/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))
