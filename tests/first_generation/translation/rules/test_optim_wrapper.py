"""Translation of the first generation's optimization keys."""

import copy
from typing import Any

import pytest

from footplate.errors import ConfigError
from footplate.first_generation.translation import Kind, translate_sections
from tests.first_generation.translation.support import notes, sections

SGD = {"type": "SGD", "lr": 0.1}
EPOCHS = {"type": "EpochBasedRunner", "max_epochs": 12}


def wrapper(**cfg: Any) -> Any:
    return sections({"optimizer": SGD, **cfg})["optim_wrapper"]


@pytest.mark.parametrize(
    ("cfg", "made"),
    [
        ({}, {"type": "OptimWrapper"}),
        ({"optimizer_config": {"grad_clip": None}}, {"type": "OptimWrapper"}),
        (
            {"optimizer_config": {"grad_clip": {"max_norm": 35, "norm_type": 2}}},
            {"type": "OptimWrapper", "clip_grad": {"max_norm": 35, "norm_type": 2}},
        ),
        (
            {"optimizer_config": {"grad_clip": None, "state_dtype": "bfloat16"}},
            {"type": "OptimWrapper", "state_dtype": "bfloat16"},
        ),
        (
            {"optimizer_config": {"type": "GradientCumulativeOptimizerHook", "cumulative_iters": 4}},
            {"type": "OptimWrapper", "accumulative_counts": 4},
        ),
        (
            {"optimizer_config": {"type": "DistOptimizerHook", "update_interval": 2, "coalesce": True}},
            {"type": "OptimWrapper", "accumulative_counts": 2},
        ),
        (
            {"fp16": {"loss_scale": "dynamic"}},
            {"type": "AmpOptimWrapper", "loss_scale": "dynamic", "dtype": "float16"},
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


def test_paramwise_cfg_moves_out_of_the_optimizer() -> None:
    made = wrapper(optimizer={**SGD, "paramwise_cfg": {"norm_decay_mult": 0.0}})
    assert made == {"type": "OptimWrapper", "optimizer": SGD, "paramwise_cfg": {"norm_decay_mult": 0.0}}


@pytest.mark.parametrize(
    ("settings", "constructor"),
    [
        ({"paramwise_cfg": {"bias_decay_mult": 0.0}}, "DefaultOptimizerConstructor"),
        ({"paramwise_cfg": {"bias_lr_mult": 2.0}, "constructor": "DefaultOptimizerConstructor"}, None),
        (
            {"paramwise_cfg": {"num_layers": 12}, "constructor": "LayerDecayOptimizerConstructor"},
            "LayerDecayOptimizerConstructor",
        ),
        ({"paramwise_options": {"norm_decay_mult": 0.0}}, None),
        ({"paramwise_options": {r"\Ahead.": {"momentum": 0.0}}}, "PatternOptimWrapperConstructor"),
    ],
)
def test_optimizer_constructor(settings: dict[str, Any], constructor: str | None) -> None:
    made = wrapper(optimizer={**SGD, **settings})
    assert made.get("constructor") == constructor
    assert made["paramwise_cfg"] == settings.get("paramwise_cfg", settings.get("paramwise_options"))
    assert made["optimizer"] == SGD


def test_each_optimizer_gets_a_wrapper() -> None:
    made = wrapper(optimizer={"generator": SGD, "discriminator": SGD}, optimizer_config={"grad_clip": {"max_norm": 1}})
    one = {"type": "OptimWrapper", "clip_grad": {"max_norm": 1}, "optimizer": SGD}
    assert made == {"generator": one, "discriminator": one}


@pytest.mark.parametrize(
    ("cfg", "made"),
    [
        ({"runner": EPOCHS}, {"type": "EpochBasedTrainLoop", "max_epochs": 12}),
        (
            {"runner": {"type": "IterBasedRunner", "max_iters": 80000}},
            {"type": "IterBasedTrainLoop", "max_iters": 80000},
        ),
        ({"total_epochs": 3}, {"type": "EpochBasedTrainLoop", "max_epochs": 3}),
        ({"total_iters": 3}, {"type": "IterBasedTrainLoop", "max_iters": 3}),
        ({"runner": EPOCHS, "total_epochs": 3}, {"type": "EpochBasedTrainLoop", "max_epochs": 12}),
    ],
)
def test_run_length_becomes_train_cfg(cfg: dict[str, Any], made: dict[str, Any]) -> None:
    assert sections(cfg)["train_cfg"] == made


def test_translation_of_optimization_keys_does_not_modify_its_input() -> None:
    cfg = {
        "optimizer": {**SGD, "paramwise_cfg": {}},
        "optimizer_config": {"type": "OptimizerHook", "grad_clip": None},
        "lr_config": {"policy": "step", "step": [1]},
        "runner": EPOCHS,
        "x": 1,
    }
    before = copy.deepcopy(cfg)
    sections(cfg)
    assert cfg == before


def test_fp16_keeps_the_loss_scale_of_the_optimizer_hook() -> None:
    hook = {"type": "Fp16OptimizerHook", "loss_scale": 64.0}
    assert wrapper(optimizer_config=hook, fp16={})["loss_scale"] == 64.0
    assert wrapper(optimizer_config=hook, fp16={"loss_scale": 8.0})["loss_scale"] == 8.0


def test_misspelt_optimizer_hook_setting_suggests_the_nearest_key() -> None:
    found = notes({"optimizer": SGD, "optimizer_config": {"grad_clipp": None}}, Kind.PERSON)
    assert found == ["optimizer_config.grad_clipp: None has no counterpart and was removed; did you mean 'grad_clip'?"]


def test_user_defined_policy_becomes_a_hook() -> None:
    found = sections({"lr_config": {"policy": "MyWave", "amplitude": 2}, "runner": EPOCHS})
    assert found["custom_hooks"] == [{"type": "MyWaveLrUpdaterHook", "amplitude": 2, "priority": "VERY_HIGH"}]
    assert found["param_scheduler"] == []


@pytest.mark.parametrize(
    ("cfg", "key", "suggestion"),
    [
        ({"optimizer": [SGD]}, "optimizer", None),
        ({"optimizer": SGD, "optimizer_config": {"type": None}}, "optimizer_config.type", None),
        ({"runner": 3}, "runner", None),
        ({"lr_config": {"policy": "fixed"}, "runner": {"type": "EpochBasedRunner"}}, "runner", None),
        ({"runner": {"max_epochs": 1, "max_iters": 1}}, "runner", None),
        ({"lr_config": "step", "runner": EPOCHS}, "lr_config", None),
        ({"lr_config": {"step": [1]}, "runner": EPOCHS}, "lr_config.policy", None),
        ({"lr_config": {"policy": "stepp"}, "runner": EPOCHS}, "lr_config.policy", "step"),
        ({"momentum_config": {"policy": "cyclc"}, "runner": EPOCHS}, "momentum_config.policy", "cyclic"),
        (
            {"optimizer": SGD, "optimizer_config": {"type": "Fp16OptimiserHook"}},
            "optimizer_config.type",
            "Fp16OptimizerHook",
        ),
    ],
)
def test_invalid_value_raises_with_key_and_suggestion(cfg: dict[str, Any], key: str, suggestion: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        translate_sections(cfg)
    assert (caught.value.key, caught.value.suggestion) == (key, suggestion)
