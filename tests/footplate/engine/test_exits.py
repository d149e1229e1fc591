"""A SystemExit raised by user code is an error of the run."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
