"""The position of a run: what each transition completes, and how scripts move it."""

from pathlib import Path

import pytest

from footplate import Runner
from footplate.engine.values.position import Position, Progress, Stage
from tests.support import settings

HERE = Position(7, 1, 3)


def test_hooks_see_the_position_from_before_the_step() -> None:
    during = HERE.after_step(1, 4)
    assert (during[:3], during.stage, during.completed) == ((7, 1, 3), Stage.ITERATION_HOOKS, Progress(8, 1))
    assert during.after_hooks() == Position(8, 1, 4)


@pytest.mark.parametrize(("epochs", "after"), [(1, Position(7, 2, 0)), (0, HERE)])
def test_hooks_at_the_end_of_an_epoch_see_the_position_from_before(epochs: int, after: Position) -> None:
    during = HERE.after_pass(epochs)
    assert (during[:3], during.stage, during.completed) == ((7, 1, 3), Stage.EPOCH_HOOKS, Progress(*after[:2]))
    assert during.after_hooks() == after


def test_a_step_or_an_epoch_counts_once() -> None:
    assert HERE.after_step(1, 4).after_step(1, 5) == HERE.after_step(1, 4)
    assert HERE.after_pass(1).after_pass(1) == HERE.after_pass(1)


def test_what_hooks_would_have_completed_is_dropped_after_an_error() -> None:
    failed = HERE.after_step(1, 4)
    failed = failed.at(failed.stage)
    assert (failed, failed.completed) == (HERE.at(Stage.ITERATION_HOOKS), Progress(7, 1))


@pytest.mark.parametrize("names", [("_iter", "_epoch"), ("_epoch", "_iter")])
def test_a_script_may_set_both_counters_in_any_order(tmp_path: Path, names: tuple[str, str]) -> None:
    runner = Runner(**settings(tmp_path))  # of 4 batches in an epoch
    for name in names:
        setattr(runner.train_loop, name, {"_iter": 6, "_epoch": 1}[name])
    assert runner.position == Position(6, 1, 2)
    assert (runner.iter, runner.epoch, runner.completed) == (6, 1, (6, 1))
