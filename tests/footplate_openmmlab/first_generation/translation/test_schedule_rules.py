"""Translation of `lr_config` and `momentum_config` into entries of `param_scheduler`."""

from typing import Any

import pytest

from footplate_openmmlab.first_generation.translation.draft import Draft
from footplate_openmmlab.first_generation.translation.schedule_rules import translate_policy

EPOCHS, ITERS = Draft({"total_epochs": 12}), Draft({"total_iters": 1000})
BY_EPOCH = {"by_epoch": True, "begin": 0, "end": 12}
BY_ITER = {"by_epoch": False, "begin": 0, "end": 1000}
WARM = {"warmup": "linear", "warmup_iters": 500, "warmup_ratio": 0.001}
LINEAR = {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 501}


@pytest.mark.parametrize(
    ("cfg", "run", "made"),
    [
        ({"policy": "fixed", **WARM}, EPOCHS, [LINEAR]),
        (
            {"policy": "step", "step": [8, 11], "gamma": 0.2, **WARM},
            EPOCHS,
            [LINEAR, {"type": "MultiStepLR", "milestones": [8, 11], "gamma": 0.2, **BY_EPOCH}],
        ),
        ({"policy": "step", "step": 3}, ITERS, [{"type": "StepLR", "step_size": 3, **BY_ITER}]),
        (
            {"policy": "poly", "power": 0.9, **WARM},
            ITERS,
            [LINEAR, {"type": "PolyLR", "power": 0.9, "eta_min": 0, **BY_ITER, "end": 1001}],
        ),
        (
            {"policy": "CosineAnnealing", "min_lr_ratio": 0.1},
            EPOCHS,
            [{"type": "CosineAnnealingLR", "T_max": 12, "eta_min_ratio": 0.1, **BY_EPOCH}],
        ),
    ],
)
def test_policy_becomes_native_schedules(cfg: dict[str, Any], run: Draft, made: list[dict[str, Any]]) -> None:
    assert translate_policy(run, cfg, "lr") == made


@pytest.mark.parametrize(
    "cfg",
    [
        {"policy": "poly", "min_lr": 1e-4, **WARM},  # a minimum is not multiplicative
        {"policy": "step", "step": [8], "min_lr": 1e-4},
        {"policy": "step", "step": [11, 8]},
        {"policy": "poly", "by_epoch": False},
        {"policy": "cyclic"},
    ],
)
def test_policy_without_counterpart_becomes_policy_lr(cfg: dict[str, Any]) -> None:
    by_epoch = cfg.get("by_epoch", cfg["policy"] != "cyclic")
    assert translate_policy(EPOCHS, cfg, "lr") == [{"type": "PolicyLR", **cfg, "by_epoch": by_epoch}]


def test_epoch_policy_has_no_effect_in_iteration_based_run() -> None:
    assert translate_policy(ITERS, {"policy": "step", "step": [1], "by_epoch": True}, "lr") == []
    assert translate_policy(ITERS, {"policy": "step", "step": [1]}, "momentum") == []


def test_unknown_settings_of_a_fixed_policy_are_kept_so_that_building_reports_them() -> None:
    made = [{"type": "PolicyLR", "policy": "fixed", "stepp": [8], "by_epoch": False}]
    assert translate_policy(ITERS, {"policy": "fixed", "stepp": [8]}, "lr") == made
    assert translate_policy(ITERS, {"policy": "fixed"}, "momentum") == []
