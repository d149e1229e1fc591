"""Tests of the public methods of a runner when hooks call them during training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate import Runner, find_learning_rate
from footplate.errors import ArgumentError
from tests.support import settings


def save(runner: Runner) -> str:
    return runner.save_checkpoint(runner.work_dir, "own.pth")


METHODS: dict[str, Callable[[Runner], Any]] = {
    "val": Runner.val,
    "test": Runner.test,
    "predict": Runner.predict,
    "save_checkpoint": save,
    "load_checkpoint": lambda runner: runner.load_checkpoint(save(runner)),
    "resume": lambda runner: runner.resume(save(runner)),
    "train": Runner.train,
    "find_learning_rate": lambda runner: find_learning_rate(runner, iterations=20),
}
TRAINING = ("before_train", "before_train_epoch", "before_train_iter", "after_train_iter", "after_train_epoch")
VALIDATION = ("before_val", "before_val_epoch", "before_val_iter", "after_val_iter")
ENDS = ("after_val_epoch", "after_val")
EVENTS = ("before_run", *TRAINING, *VALIDATION, *ENDS)
REFUSED = {
    **dict.fromkeys(("resume", "find_learning_rate"), (*TRAINING, *VALIDATION, *ENDS)),
    "train": EVENTS,
    **dict.fromkeys(("test", "predict"), VALIDATION),
    "val": (*VALIDATION, *ENDS),
}


def trained(work_dir: Path, hooks: dict[str, Callable[[Runner], None]]) -> Any:
    """Trains for 2 epochs. Returns the weights and the values of the last epoch."""
    checkpoint = {"interval": -1, "save_last": False}
    changes: dict[str, Any] = {
        "train_cfg": {"max_epochs": 2},
        "default_hooks": {"checkpoint": checkpoint},
        "log_level": "ERROR",
    }
    runner = Runner(**settings(work_dir, model={"type": "ToyModel", "dropout": 0.3}, **changes))
    for event, hook in hooks.items():
        runner.on(event, hook)
    runner.train()
    last = {name: value for name, value in dict(runner.history[-1]).items() if "time" not in name}
    return {name: value.tolist() for name, value in runner.model.state_dict().items()}, last


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("run"), {})


@pytest.mark.parametrize("method", METHODS)
def test_call_in_a_hook_is_refused_or_leaves_the_run_as_it_was(tmp_path: Path, expected: Any, method: str) -> None:
    called: set[str] = set()

    def call(runner: Runner, event: str) -> None:
        if event in called:
            return
        called.add(event)
        if event in REFUSED.get(method, ()):
            with pytest.raises(ArgumentError, match=f"{method} cannot be called during"):
                METHODS[method](runner)
        else:
            METHODS[method](runner)

    hooks = {event: lambda runner, event=event: call(runner, event) for event in EVENTS}
    assert trained(tmp_path, hooks) == expected  # type: ignore[arg-type]
    assert called == set(EVENTS)
