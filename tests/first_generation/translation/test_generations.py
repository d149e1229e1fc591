import logging
from pathlib import Path
from typing import Any

import pytest

from footplate import Config
from footplate.errors import ConfigError
from footplate.first_generation.translation import is_first_generation, warn_about_leftovers
from tests.modules import load_benchmark

DIGESTS = Path(__file__).parents[2] / "data" / "corpus"
SGD = {"type": "SGD", "lr": 0.1}
WRAPPER = {"optimizer": SGD}


@pytest.mark.parametrize(
    ("cfg", "first"),
    [
        ({"optimizer": SGD}, True),
        ({"lr_config": {"policy": "step"}}, True),
        ({"data": {"train": {}}, "train_dataloader": {}}, True),
        ({"runner": {"type": "IterBasedRunner"}, "val_evaluator": {}}, True),
        ({"total_epochs": 12}, True),
        ({"checkpoint_config": {"interval": 1}}, True),
        ({"optim_wrapper": WRAPPER}, False),
        ({"optim_wrapper": WRAPPER, "optimizer": SGD}, False),
        ({"optim_wrapper": WRAPPER, "runner": {}, "data": {}, "evaluation": {}, "fp16": {}, "total_iters": 1}, False),
        ({"optimizer": SGD, "train_dataloader": {}}, False),
        ({"test_dataloader": {}, "cudnn_benchmark": True}, False),
        ({"model": {"type": "X"}}, False),
        ({}, False),
    ],
)
def test_generation_is_detected(cfg: dict[str, Any], first: bool) -> None:
    assert is_first_generation(cfg) is first


@pytest.mark.parametrize("key", ["lr_config", "optimizer_config", "momentum_config", "checkpoint_config", "log_config"])
@pytest.mark.parametrize("second", ["optim_wrapper", "param_scheduler"])
def test_optimization_keys_of_both_generations_raise(key: str, second: str) -> None:
    cfg = Config.fromstring(
        f"{second} = dict(optimizer=dict(type='SGD'))\ndefault_hooks = dict()\n{key} = dict()", ".py"
    )
    with pytest.raises(ConfigError) as caught:
        is_first_generation(cfg)
    assert str(caught.value).splitlines()[:4] == [
        "the config sets up optimization with keys of both generations",
        f"  at <string>.py:3, key {key}",
        f"  first generation: {key}",
        f"  second generation: {second}, default_hooks",
    ]


def test_override_of_a_missing_base_section_is_a_leftover(caplog: pytest.LogCaptureFixture) -> None:
    text = "optim_wrapper = dict()\noptimizer_config = dict(_delete_=True, grad_clip=dict(max_norm=35))"
    cfg = Config.fromstring(text, ".py")
    assert not is_first_generation(cfg)
    warn_about_leftovers(cfg)
    assert "have no effect: optimizer_config" in caplog.text


def test_leftovers_are_reported_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "footplate")
    warn_about_leftovers({"optim_wrapper": WRAPPER, "runner": {}, "fp16": {}, "data": {}, "evaluation": {}})
    assert [record.message for record in caplog.records] == [
        "first-generation keys in a second-generation config have no effect: runner, evaluation, data, fp16"
    ]


def test_variables_are_not_reported_as_leftovers(caplog: pytest.LogCaptureFixture) -> None:
    text = "total_iters = 8\noptim_wrapper = dict()\ntrain_cfg = dict(max_iters=total_iters)"
    warn_about_leftovers(Config.fromstring(text, ".py"))
    assert not caplog.records


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in DIGESTS.glob("*.json")))
def test_generation_of_all_published_configs_is_detected(name: str) -> None:
    corpus = load_benchmark("corpus")
    folder = corpus.fetch(name)
    for path in corpus.listed(name)[0]:
        assert is_first_generation(corpus.load(folder, path)) in (True, False)
