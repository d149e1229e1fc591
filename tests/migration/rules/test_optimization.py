from typing import Any

import pytest

from footplate.migration import Kind
from tests.migration.support import EPOCHS, ITERS, notes, sections


def test_a_runner_of_ones_own_is_asked_about() -> None:
    cfg = {"runner": {"type": "EpochBasedRuner", "max_epochs": 1}}
    assert notes(cfg, Kind.PERSON) == [
        "runner.type: 'EpochBasedRuner' is a runner of its own: what it does beside counting is not kept; "
        "did you mean 'EpochBasedRunner'?"
    ]


def test_hooks_of_the_users_own_take_their_place() -> None:
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


def test_a_registered_hook_is_no_misspelling() -> None:
    cfg = {**EPOCHS, "optimizer": {"type": "SGD", "lr": 0.1}, "optimizer_config": {"type": "OptimizersHook"}}
    assert sections(cfg, is_hook_registered=lambda name: True)["optim_wrapper"]["type"] == "SteppedByHook"


def test_several_optimizers_without_a_hook_are_the_models_affair() -> None:
    optimizer = {"generator": {"type": "Adam", "lr": 1e-4}, "discriminator": {"type": "Adam", "lr": 1e-3}}
    found = sections({**ITERS, "optimizer": optimizer, "optimizer_config": None})
    assert {name: each["type"] for name, each in found["optim_wrapper"].items()} == {
        "generator": "SteppedByModel",
        "discriminator": "SteppedByModel",
    }


@pytest.mark.parametrize(("kind", "scale"), [("SiameseRPNFp16OptimizerHook", 128.0), ("SiameseRPNOptimizerHook", None)])
def test_precision_is_the_affair_of_a_hook_that_steps(kind: str, scale: float | None) -> None:
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
def test_a_step_that_cannot_be_made_needs_a_person(cfg: dict[str, Any], named: str) -> None:
    found = notes({**EPOCHS, "optimizer": {"type": "SGD"}, **cfg}, Kind.PERSON)
    assert [note for note in found if note.startswith(named)]


@pytest.mark.parametrize("key", ["coalesce", "bucket_size_mb"])
def test_what_reduces_gradients_is_named(key: str) -> None:
    cfg = {**EPOCHS, "optimizer": {"type": "SGD"}, "optimizer_config": {key: 1}}
    assert f"optimizer_config.{key}: nothing: the model's own wrapper reduces gradients" in notes(cfg, Kind.BECAME)


@pytest.mark.parametrize(
    ("total", "kind", "text"), [(12, Kind.BECAME, "nothing: runner says it"), (9, Kind.WARNING, "9 contradicts")]
)
def test_a_length_said_twice_is_named(total: int, kind: Kind, text: str) -> None:
    assert [note for note in notes({**EPOCHS, "total_epochs": total}, kind) if note.startswith(f"total_epochs: {text}")]
