"""Tests of the public methods of a runner when hooks call them during training."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from footplate import Runner
from footplate.engine import ValLoop
from footplate.engine.values.events import EventName
from footplate.errors import ArgumentError
from footplate.records import MessageHub
from tests.support import ToyModel, json_lines, settings


class Drawing(ToyModel):
    """Draws random numbers in predictions too, as generative models do."""

    def forward(self, inputs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return super().forward(inputs + 0.1 * torch.rand_like(inputs), *args, **kwargs)


def save(runner: Runner) -> str:
    return runner.save_checkpoint(runner.work_dir, "own.pth")


METHODS: dict[str, Callable[[Runner], Any]] = {
    "val": Runner.val,
    "test": Runner.test,
    "predict": Runner.predict,
    "val_loop.run": lambda runner: cast(ValLoop, runner.val_loop).run(),
    "save_checkpoint": save,
    "load_checkpoint": lambda runner: runner.load_checkpoint(save(runner)),
    "resume": lambda runner: runner.resume(save(runner)),
    "train": Runner.train,
}
TRAINING = ("before_train", "before_train_epoch", "before_train_iter", "after_train_iter", "after_train_epoch")
VALIDATION = ("before_val", "before_val_epoch", "before_val_iter", "after_val_iter")
ENDS = ("after_val_epoch", "after_val")
EVENTS = ("before_run", *TRAINING, *VALIDATION, *ENDS)
REFUSED = {
    "resume": (*TRAINING, *VALIDATION, *ENDS),
    "train": EVENTS,
    **dict.fromkeys(("test", "predict"), VALIDATION),
    "val": (*VALIDATION, *ENDS),
}


def trained(work_dir: Path, hooks: dict[EventName, Callable[[Runner], None]]) -> Any:
    """Trains for 2 epochs. Returns the weights and the values of the last epoch."""
    changes: dict[str, Any] = {
        "train_cfg": {"max_epochs": 2},
        "default_hooks": {"checkpoint": {"interval": -1, "save_last": False}},
        "log_level": "ERROR",
    }
    runner = Runner(**settings(work_dir, model=partial(Drawing, dropout=0.3), **changes))
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
        if event in (*VALIDATION, *ENDS):
            torch.rand(1)
        MessageHub.get_instance(f"{tmp_path}-{event}")  # as hooks for MMEngine do, which makes it the current hub
        if event in REFUSED.get(method, ()):
            with pytest.raises(ArgumentError, match=f"{method} cannot be called during"):
                METHODS[method](runner)
        else:
            METHODS[method](runner)

    hooks = {event: lambda runner, event=event: call(runner, event) for event in EVENTS}
    assert trained(tmp_path, hooks) == expected  # type: ignore[arg-type]
    assert called == set(EVENTS)


@pytest.mark.parametrize(
    ("event", "by_epoch", "steps"),
    [
        ("after_train_iter", False, {4, 8, 12}),
        ("after_train_iter", True, {0, 1, 3}),  # the epoch is not complete yet
        ("after_train_epoch", True, {1, 2, 3}),
    ],
)
def test_validation_in_a_hook_counts_the_iteration_or_epoch_that_it_follows(
    tmp_path: Path, event: EventName, by_epoch: bool, steps: set[int]
) -> None:
    length = {"max_epochs": 3, "val_interval": 3} if by_epoch else {"max_iters": 12, "val_interval": 12}
    runner = Runner(
        **settings(tmp_path, by_epoch=by_epoch)
        | {"train_cfg": {"by_epoch": by_epoch, **length}, "log_processor": {"by_epoch": by_epoch}, "log_level": "INFO"}
    )

    def validate(runner: Runner) -> None:
        if event == "after_train_epoch" or runner.iter in (3, 7):
            runner.val()

    runner.on(event, validate)
    runner.on("after_val_epoch", lambda runner: runner.log("own", 1.0))
    runner.train()
    validated = [dict(row) for row in runner.history if "val/accuracy" in row]
    assert [(row["epoch"], row["iter"]) for row in validated] == [(1, 4), (2, 8), (3, 12)]
    assert all({"loss", "own"} <= row.keys() for row in validated)
    recorded = json_lines(next(tmp_path.glob("*/vis_data/scalars.json")))
    assert {row["step"] for row in recorded if "accuracy" in row} == steps
    assert {row["step"] for row in recorded if "own" in row} == {4, 8, 12}
    if by_epoch:
        lines = next(tmp_path.glob("*/*.log")).read_text()
        assert all(f"Epoch(val) [{epoch}][2/2]" in lines for epoch in steps)


def test_validation_in_a_hook_belongs_to_the_run(tmp_path: Path) -> None:
    runner = Runner(**settings(tmp_path))
    validated: list[Any] = []
    for event in ("before_run", "before_train", "after_train", "after_run"):
        runner.on(event, lambda runner: validated.append(runner.val()))
    runner.train()
    assert len(validated) == 4
    lines = Path(runner.log_dir, f"{runner.timestamp}.log").read_text().splitlines()
    assert len(lines) == len(set(lines))
