"""A SystemExit raised by user code is an error of the run."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate import Hook, Runner
from footplate.cli.main import main
from footplate.errors import DataError, ExitError, FootplateError
from footplate.registry import DATASETS, HOOKS, MODELS
from tests.support import TINY, Points, ToyModel, loader, settings
from tests.support_samplers import Remembering


def leave() -> None:
    sys.exit(0)


@MODELS.register_module()
class LeavingModel(ToyModel):
    """Exits in its ninth forward pass."""

    passes = 0

    def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
        self.passes += 1
        if self.passes == 9:
            leave()
        return super().forward(inputs, labels, mode)


@HOOKS.register_module()
class LeavingHook(Hook):
    def __init__(self, event: str) -> None:
        setattr(self, event, lambda runner, **arguments: leave())


@DATASETS.register_module()
class LeavingPoints(Points):
    def __getitem__(self, index: int) -> Any:
        if index == 5:
            leave()
        return super().__getitem__(index)


class LeavingSampler(Remembering):
    def __iter__(self) -> Iterator[int]:
        yield from range(8)
        leave()


CASES: dict[str, tuple[type[FootplateError], dict[str, Any]]] = {
    "model": (ExitError, {"model": {"type": "LeavingModel"}}),
    "sampler": (ExitError, {"train_dataloader": loader(sampler=LeavingSampler())}),
    "dataset": (DataError, {"train_dataloader": loader(dataset={"type": "LeavingPoints"})}),
    "dataset of a worker": (DataError, {"train_dataloader": loader(dataset={"type": "LeavingPoints"}, num_workers=1)}),
    **{
        event: (ExitError, {"custom_hooks": [{"type": "LeavingHook", "event": event}]})
        for event in ("before_run", "after_train_iter", "after_run")
    },
}


@pytest.mark.parametrize("case", CASES)
def test_exit_of_user_code_is_an_error_with_its_line(tmp_path: Path, case: str) -> None:
    kind, changes = CASES[case]
    with pytest.raises(kind) as caught:
        Runner.from_cfg(settings(tmp_path, **changes)).train()
    assert "SystemExit" in str(caught.value)
    assert caught.value.exit_code != 0
    assert f"test_exits.py:{leave.__code__.co_firstlineno + 1}" in str(caught.value)


def test_command_with_an_exit_of_user_code_fails(current_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.py").write_text(
        TINY.replace("ToyModel", "LeavingModel").replace('"tests.support"', '"tests.footplate.engine.test_exits"')
    )
    assert main(["train", "config.py"]) == 1
    told = capsys.readouterr().err
    assert "SystemExit(0) was raised at " in told
    assert "Traceback" not in told


class Aborted(BaseException):
    """A user-defined error that is not an Exception."""


@pytest.mark.parametrize("kind", [Aborted, KeyboardInterrupt, StopIteration])
@pytest.mark.parametrize("event", ["before_train_epoch", "after_train_iter"])
def test_every_exception_that_leaves_a_run_is_an_error(
    tmp_path: Path, kind: type[BaseException], event: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(Hook):
        pass

    def act(runner: Any, **arguments: Any) -> None:
        if hooks:
            hooks.clear()
            raise kind

    hooks = [Raising()]
    setattr(hooks[0], event, act)
    runner = Runner(**settings(tmp_path, custom_hooks=list(hooks)))
    with pytest.raises((kind, RuntimeError)):
        runner.train()
    runner.train()
    assert ("its batch is used twice" in caplog.text) == (event == "after_train_iter")


class FailsOnce(nn.Module):
    """Fails in the backward pass of one iteration, when some gradients have been computed, or in one validation."""

    def __init__(self, iteration: int = 0, epoch: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)
        self.passes, self.iteration, self.epoch = 0, iteration, epoch

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        hidden = self.first(points)
        if self.training:
            self.passes += 1
        if self.training and self.passes == self.iteration:
            hidden.register_hook(lambda gradient: 1 / 0)
        if not self.training and self.epoch * 4 == self.passes > 0:
            self.epoch = 0
            raise ZeroDivisionError
        return self.last(hidden)  # type: ignore[no-any-return]


def trained(folder: Path, model: FailsOnce) -> Runner:
    data = [
        (torch.randn(4, 4, generator=torch.Generator().manual_seed(each)), torch.ones(4).long()) for each in range(4)
    ]
    runner = Runner(
        model,
        folder,
        train_dataloader=data,
        val_dataloader=data[:1],
        max_epochs=3,
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        loss=nn.CrossEntropyLoss(),
        preflight=False,
    )
    try:
        runner.train()
    except ZeroDivisionError:
        runner.train()
    return runner


def test_gradients_of_a_failed_step_do_not_enter_the_next_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    straight, failed = FailsOnce(), FailsOnce(iteration=7)
    trained(tmp_path / "straight", straight)
    trained(tmp_path / "failed", failed)
    assert "The step of iteration 7 failed, so training repeats it, without its gradients" in caplog.text
    for name, weight in straight.state_dict().items():
        assert torch.equal(weight, failed.state_dict()[name])


def test_failed_validation_is_repeated(tmp_path: Path) -> None:
    runner = trained(tmp_path, FailsOnce(epoch=3))
    assert [row["epoch"] for row in runner.history if "val/loss" in row] == [1, 2, 3]


@pytest.mark.parametrize(("by_epoch", "iteration"), [(True, 5), (False, 13)])
def test_hooks_that_act_twice_at_the_end_of_an_epoch_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, by_epoch: bool, iteration: int
) -> None:
    runner = Runner(**settings(tmp_path, by_epoch=by_epoch))

    def fail(runner: Runner) -> None:
        if "failed" not in vars(runner):
            vars(runner)["failed"] = True
            raise ZeroDivisionError

    runner.on("after_train_epoch", fail, priority="LOWEST")
    with pytest.raises(ZeroDivisionError):
        runner.train()
    runner.train()
    place = f"at the end of an epoch, before iteration {iteration}"
    assert f"A hook failed {place}, so training calls its hooks again" in caplog.text
