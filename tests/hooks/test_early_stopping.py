import math
from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.hooks import EarlyStoppingHook
from tests.support import settings


def run(tmp_path: Path, values: list[float], *, resume: bool = False, **hook: Any) -> Runner:
    cfg = settings(
        tmp_path,
        val_evaluator={"type": "Told", "values": {"acc": values}},
        custom_hooks=[{"type": "EarlyStoppingHook", "monitor": "acc", **hook}],
        resume=resume,
    )
    cfg["default_hooks"] = {"logger": None, "checkpoint": {"interval": 1}}
    runner = Runner(**{**cfg, "train_cfg": {"by_epoch": True, "max_epochs": len(values)}})
    runner.train()
    return runner


@pytest.mark.parametrize(
    ("values", "hook", "epochs"),
    [
        ([1, 1, 1, 1, 1], {"patience": 2}, 3),
        ([1, 2, 1, 1, 1], {"patience": 2}, 4),
        ([1, 2, 3, 4, 5], {"patience": 1}, 5),
        ([1.0, 1.05, 1.06, 2, 2], {"patience": 2}, 3),  # less than min_delta is no better
        ([1.0, 1.05, 1.2, 1.3, 1.4], {"patience": 2, "min_delta": 0.01}, 5),
        ([3, 2, 1, 1, 1], {"patience": 2, "rule": "less"}, 5),
        ([1, math.nan, 3, 4, 5], {}, 2),
        ([1, math.nan, 3, 4, 5], {"check_finite": False}, 5),
        ([1, 2, 3, 4, 5], {"stopping_threshold": 3.0}, 3),
        ([5, 4, 3, 2, 1], {"stopping_threshold": 2.5, "rule": "less"}, 4),
    ],
)
def test_when_training_ends(tmp_path: Path, values: list[float], hook: dict[str, Any], epochs: int) -> None:
    assert run(tmp_path, values, **hook).epoch == epochs


def test_without_the_hook_training_goes_on(tmp_path: Path) -> None:
    cfg = settings(tmp_path, val_evaluator={"type": "Told", "values": {"acc": [1, 1, 1]}})
    runner = Runner(**cfg)
    runner.train()
    assert runner.epoch == 3


def test_a_resumed_run_goes_on_counting() -> None:
    hook = EarlyStoppingHook("acc", patience=3)
    hook.load_state_dict({"wait_count": 2, "best_score": 5.0})
    assert hook.state_dict() == {"wait_count": 2, "best_score": 5.0}
    assert "not better than 5 in 3 validations" in hook._reason_to_stop(4.0)


def test_a_metric_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(tmp_path / "lax", [1, 1], monitor="accc", patience=1).epoch == 2
    assert "early stopping waits for 'accc', which no metric gives: acc" in caplog.messages
    with pytest.raises(ArgumentError, match="monitor names 'accc'") as caught:
        run(tmp_path / "strict", [1, 1], monitor="accc", strict=True)
    assert (caught.value.suggestion, caught.value.notes) == ("acc", ("metrics: acc",))


@pytest.mark.parametrize(
    ("hook", "key"),
    [
        ({"patience": 0}, "patience"),
        ({"min_delta": -1}, "min_delta"),
        ({"stopping_threshold": "90"}, "stopping_threshold"),
        ({"rule": "more"}, "rule"),
        ({"monitor": "speed"}, "monitor"),
    ],
)
def test_arguments_that_make_no_sense(hook: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        EarlyStoppingHook(**{"monitor": "acc", **hook})
    assert caught.value.key == key
