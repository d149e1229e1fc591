import logging
from types import SimpleNamespace
from typing import Any

import pytest

from footplate.errors import ArgumentError
from footplate.registry import HOOKS


def hook(**arguments: Any) -> Any:
    return HOOKS.build({"type": "ValidateFirstHook", **arguments})


def runner(iteration: int = 0, **parts: Any) -> Any:
    loop = SimpleNamespace(validation_requested=False)
    return SimpleNamespace(iter=iteration, val_loop=object(), train_loop=loop, **parts)


@pytest.mark.parametrize(("iteration", "asked"), [(0, True), (7, False)])
def test_a_run_that_begins_is_validated_first(iteration: int, asked: bool) -> None:
    run = runner(iteration)
    hook().before_train(run)
    assert run.train_loop.validation_requested is asked


def test_gains_are_added_and_told(caplog: pytest.LogCaptureFixture) -> None:
    first: dict[str, Any] = {"knn/top1": 60.0, "linear/top1": 70.0, "matrix": [1]}
    later: dict[str, Any] = {"knn/top1": 75.5, "linear/top1": 69.0, "matrix": [2]}
    watching = hook()
    with caplog.at_level(logging.INFO, logger="footplate"):
        watching.after_val_epoch(runner(0), first)
        watching.after_val_epoch(runner(100), later)
    assert first == {"knn/top1": 60.0, "linear/top1": 70.0, "matrix": [1]}
    assert (later["gain/knn/top1"], later["gain/linear/top1"]) == (15.5, -1.0)
    assert "gain/matrix" not in later
    assert caplog.messages == ["since the start: knn/top1 60.00 -> 75.50 (+15.50), linear/top1 70.00 -> 69.00 (-1.00)"]


def test_only_some_metrics_may_be_compared() -> None:
    watching, later = hook(keys=["a"]), {"a": 3.0, "b": 4.0}
    watching.after_val_epoch(runner(0), {"a": 1.0, "b": 1.0})
    watching.after_val_epoch(runner(1), later)
    assert later == {"a": 3.0, "b": 4.0, "gain/a": 2.0}


def test_a_resumed_run_knows_the_start() -> None:
    watching, resumed, later = hook(), hook(), {"a": 3.0}
    watching.after_val_epoch(runner(0), {"a": 1.0})
    resumed.load_state_dict(watching.state_dict())
    resumed.after_val_epoch(runner(5), later)
    assert later["gain/a"] == 2.0
    unknown = {"a": 3.0}
    hook().after_val_epoch(runner(5), unknown)
    assert unknown == {"a": 3.0}


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'knn/top1'"):
        hook(keys=["knn/top"]).after_val_epoch(runner(0), {"knn/top1": 1.0})
    run = runner()
    run.val_loop = None
    with pytest.raises(ArgumentError, match="needs a validation"):
        hook().before_train(run)
