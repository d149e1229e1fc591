from typing import Any

import pytest

from footplate.first_generation.translation import Kind
from tests.first_generation.translation.support import EPOCHS, ITERS, notes, sections


def test_user_defined_runner_needs_a_manual_check() -> None:
    cfg = {"runner": {"type": "EpochBasedRuner", "max_epochs": 1}}
    assert notes(cfg, Kind.PERSON) == [
        "runner.type: 'EpochBasedRuner' is not a built-in runner; only its length is kept; "
        "did you mean 'EpochBasedRunner'?"
    ]


def test_user_defined_hooks_become_custom_hooks() -> None:
    cfg = {
        **ITERS,
        "optimizer": {"type": "SGD", "lr": 0.1},
        "optimizer_config": {"type": "MyStep", "grad_clip": None},
        "lr_config": {"policy": "Wave", "height": 2},
        "log_config": {"interval": 5, "hooks": [{"type": "TextLoggerHook"}, {"type": "MyLoggerHook", "a": 1}]},
    }
    found = sections(cfg)
    assert found["optim_wrapper"]["type"] == "SteppedByHook"
    assert found["custom_hooks"] == [
        {"type": "MyStep", "grad_clip": None, "priority": "ABOVE_NORMAL"},
        {"by_epoch": False, "type": "WaveLrUpdaterHook", "height": 2, "priority": "VERY_HIGH"},
        {"by_epoch": False, "interval": 5, "type": "MyLoggerHook", "a": 1, "priority": "VERY_LOW"},
    ]


def test_registered_hook_is_not_taken_for_a_typo() -> None:
    cfg = {**EPOCHS, "optimizer": {"type": "SGD", "lr": 0.1}, "optimizer_config": {"type": "OptimizersHook"}}
    assert sections(cfg, is_hook_registered=lambda name: True)["optim_wrapper"]["type"] == "SteppedByHook"


def test_several_optimizers_without_a_hook_are_stepped_by_the_model() -> None:
    optimizer = {"generator": {"type": "Adam", "lr": 1e-4}, "discriminator": {"type": "Adam", "lr": 1e-3}}
    found = sections({**ITERS, "optimizer": optimizer, "optimizer_config": None})
    assert {name: each["type"] for name, each in found["optim_wrapper"].items()} == {
        "generator": "SteppedByModel",
        "discriminator": "SteppedByModel",
    }


@pytest.mark.parametrize(("kind", "scale"), [("SiameseRPNFp16OptimizerHook", 128.0), ("SiameseRPNOptimizerHook", None)])
def test_precision_settings_move_into_the_stepping_hook(kind: str, scale: float | None) -> None:
    cfg = {
        **EPOCHS,
        "optimizer": {"type": "SGD", "lr": 0.1},
        "optimizer_config": {"type": kind},
        "fp16": {"loss_scale": 128.0},
    }
    found = sections(cfg)
    assert found["optim_wrapper"]["type"] == "SteppedByHook"
    assert found["custom_hooks"][0].get("loss_scale") == scale
    assert len([note for note in notes(cfg, Kind.PERSON) if note.startswith("fp16: ")]) == (scale is None)


@pytest.mark.parametrize(
    ("cfg", "named"),
    [
        ({"optimizer_config": {"detect_anomalous_params": True}}, "optimizer_config.detect_anomalous_params: True has"),
        ({"fp16": {"accum_type": "half"}}, "fp16.accum_type: 'half' has no counterpart"),
    ],
)
def test_unsupported_step_setting_needs_a_manual_check(cfg: dict[str, Any], named: str) -> None:
    found = notes({**EPOCHS, "optimizer": {"type": "SGD"}, **cfg}, Kind.PERSON)
    assert [note for note in found if note.startswith(named)]


@pytest.mark.parametrize("key", ["coalesce", "bucket_size_mb"])
def test_all_reduce_settings_are_noted(key: str) -> None:
    cfg = {**EPOCHS, "optimizer": {"type": "SGD"}, "optimizer_config": {key: 1}}
    assert f"optimizer_config.{key}: removed: DistributedDataParallel reduces the gradients" in notes(cfg, Kind.BECAME)


@pytest.mark.parametrize(
    ("total", "kind", "text"), [(12, Kind.BECAME, "removed: runner already"), (9, Kind.WARNING, "9 conflicts with")]
)
def test_duplicate_run_length_is_noted(total: int, kind: Kind, text: str) -> None:
    assert [note for note in notes({**EPOCHS, "total_epochs": total}, kind) if note.startswith(f"total_epochs: {text}")]
