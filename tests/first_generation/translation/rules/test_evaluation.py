from typing import Any

import pytest

from tests.first_generation.translation.support import DATA, EPOCHS, ITERS, sections

# The settings of `evaluation` for the validation interval, and the expected settings of the loop.
INTERVALS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"val_interval": 1}),
    ({"interval": 5}, {"val_interval": 5}),
    ({"interval": 2, "start": 4}, {"val_interval": 2, "val_begin": 4}),
    ({"interval": 10, "dynamic_intervals": [(9, 1)]}, {"val_interval": 10, "dynamic_intervals": [(10, 1)]}),
]


@pytest.mark.parametrize(("evaluation", "expected"), INTERVALS)
def test_interval_becomes_settings_of_the_training_loop(evaluation: dict[str, Any], expected: dict[str, Any]) -> None:
    found = sections({**EPOCHS, **DATA, "evaluation": evaluation})
    assert found["train_cfg"] == {"type": "EpochBasedTrainLoop", "max_epochs": 12, **expected}
    assert found["val_cfg"] == {"type": "ValLoop"}


@pytest.mark.parametrize("evaluation", [{"start": 3, "interval": 2}, {"start": 0}, {"by_epoch": False, "interval": 50}])
def test_interval_unsupported_by_the_loop_becomes_eval_hook(evaluation: dict[str, Any]) -> None:
    found = sections({**EPOCHS, **DATA, "evaluation": evaluation})
    assert found["train_cfg"]["val_begin"] == 13
    expected = {"type": "EvalHook", "interval": 1, "by_epoch": True, "priority": "LOW", **evaluation}
    assert found["custom_hooks"] == [expected]


def test_other_keys_become_arguments_of_the_metric() -> None:
    evaluation = {
        "interval": 1,
        "metric": ["bbox", "segm"],
        "classwise": True,
        "save_best": "bbox_mAP",
        "rule": "greater",
    }
    found = sections({**EPOCHS, **DATA, "evaluation": evaluation})
    metric = {"type": "LegacyMetric", "metric": ["bbox", "segm"], "classwise": True}
    assert found["val_evaluator"] == found["test_evaluator"] == metric
    assert found["default_hooks"]["checkpoint"] == {"save_best": "bbox_mAP", "rule": "greater", "priority": "NORMAL"}


def test_save_best_without_checkpoint_config_saves_only_the_best() -> None:
    cfg = {**ITERS, **DATA, "checkpoint_config": None, "evaluation": {"interval": 10, "save_best": "auto"}}
    saved = {"interval": -1, "save_last": False, "by_epoch": False, "save_best": "auto", "priority": "NORMAL"}
    assert sections(cfg)["default_hooks"]["checkpoint"] == saved
