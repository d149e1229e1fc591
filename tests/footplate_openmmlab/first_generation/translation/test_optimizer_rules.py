from typing import Any

import pytest

from footplate_openmmlab.first_generation.translation.draft import Kind
from tests.footplate_openmmlab.first_generation.translation.support import EPOCHS, ITERS, notes, sections


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


SGD = {"type": "SGD", "lr": 0.1}
RUNNER = EPOCHS["runner"]


def wrapper(**cfg: Any) -> Any:
    return sections({"optimizer": SGD, **cfg})["optim_wrapper"]


@pytest.mark.parametrize(
    ("cfg", "made"),
    [
        (
            {"optimizer_config": {"grad_clip": {"max_norm": 35, "norm_type": 2}}},
            {"type": "OptimWrapper", "clip_grad": {"max_norm": 35, "norm_type": 2}},
        ),
        (
            {"optimizer_config": {"type": "DistOptimizerHook", "update_interval": 2, "coalesce": True}},
            {"type": "OptimWrapper", "accumulative_counts": 2},
        ),
        ({"fp16": {}}, {"type": "AmpOptimWrapper", "loss_scale": 512.0, "dtype": "float16"}),
        (
            {
                "optimizer_config": {
                    "type": "GradientCumulativeFp16OptimizerHook",
                    "cumulative_iters": 2,
                    "loss_scale": 64.0,
                }
            },
            {"type": "AmpOptimWrapper", "loss_scale": 64.0, "dtype": "float16", "accumulative_counts": 2},
        ),
    ],
)
def test_optimizer_hook_settings_become_wrapper_settings(cfg: dict[str, Any], made: dict[str, Any]) -> None:
    assert wrapper(**cfg) == {**made, "optimizer": SGD}


@pytest.mark.parametrize(
    ("settings", "constructor"),
    [
        ({"paramwise_cfg": {"bias_decay_mult": 0.0}}, "FirstGenerationOptimWrapperConstructor"),
        ({"paramwise_cfg": {"bias_lr_mult": 2.0}, "constructor": "DefaultOptimizerConstructor"}, None),
        (
            {"paramwise_cfg": {"num_layers": 12}, "constructor": "LayerDecayOptimizerConstructor"},
            "LayerDecayOptimizerConstructor",
        ),
        ({"paramwise_options": {r"\Ahead.": {"momentum": 0.0}}}, "PatternOptimWrapperConstructor"),
    ],
)
def test_optimizer_constructor(settings: dict[str, Any], constructor: str | None) -> None:
    made = wrapper(optimizer={**SGD, **settings})
    assert made.get("constructor") == constructor
    assert made["paramwise_cfg"] == settings.get("paramwise_cfg", settings.get("paramwise_options"))
    assert made["optimizer"] == SGD


def test_a_user_defined_policy_gets_one_group_for_each_parameter() -> None:
    optimizer = {**SGD, "paramwise_cfg": {"bias_lr_mult": 2.0}}
    assert "constructor" not in wrapper(optimizer=optimizer, lr_config={"policy": "step", "step": [1]})
    made = wrapper(optimizer=optimizer, lr_config={"policy": "MyPoly"})
    assert made["constructor"] == "DefaultOptimizerConstructor"
