import logging
from typing import Any

import pytest

from footplate import Config
from footplate.engine.run_config import in_second_generation
from footplate.errors import ConfigError

FIRST: dict[str, Any] = {
    "model": {"type": "M"},
    "optimizer": {"type": "SGD", "lr": 0.1},
    "lr_config": {"policy": "fixed"},
    "runner": {"type": "EpochBasedRunner", "max_epochs": 2},
}
SECOND: dict[str, Any] = {"model": {"type": "M"}, "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}}}


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_second_generation_config_is_returned_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    cfg = Config(SECOND)
    assert in_second_generation(cfg) is cfg
    assert warnings_of(caplog) == []


def test_first_generation_config_is_translated_with_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    found = in_second_generation(Config(FIRST))
    assert found.train_cfg == {"type": "EpochBasedTrainLoop", "max_epochs": 2}
    assert "optimizer" not in found
    assert caplog.text.count("This first-generation config was translated") == 1
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("leftover", ["runner", "fp16", "data", "evaluation", "total_iters"])
def test_leftover_logs_one_warning(leftover: str, caplog: pytest.LogCaptureFixture) -> None:
    in_second_generation(Config({**SECOND, leftover: {"a": 1}}))
    assert warnings_of(caplog) == [f"First-generation keys in a second-generation config have no effect: {leftover}"]


def test_all_leftovers_log_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    left = {"runner": {"a": 1}, "fp16": {"a": 1}, "data": {"a": 1}, "evaluation": {"a": 1}, "total_iters": 4}
    in_second_generation(Config({**SECOND, **left}))
    assert [text.partition(": ")[2] for text in warnings_of(caplog)] == ["fp16, runner, total_iters, evaluation, data"]


def test_optimizer_next_to_its_wrapper_logs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    cfg = Config({**SECOND, "optimizer": {"type": "SGD", "lr": 0.1}})
    assert in_second_generation(cfg) is cfg
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("key", ["lr_config", "optimizer_config", "momentum_config", "checkpoint_config", "log_config"])
def test_keys_of_both_generations_raise_with_both_lists(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        in_second_generation(Config({**SECOND, key: {"a": 1}}))
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert {f"first generation: {key}", "second generation: optim_wrapper"} <= set(lines)


def test_each_setting_that_cannot_be_kept_logs_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("footplate.first_generation.translator.pick_device", lambda: type("Cpu", (), {"type": "cpu"})())
    in_second_generation(Config({**FIRST, "fp16": {"loss_scale": 512.0}, "device": "cuda", "gpu_ids": [0]}))
    found = warnings_of(caplog)
    assert [text.partition(": ")[0] for text in found] == ["device", "gpu_ids", "fp16"]
    assert found[2] == "fp16: float16 needs an accelerator; on this CPU, mixed precision uses bfloat16"


@pytest.mark.parametrize(
    ("section", "value", "wrong", "right"),
    [
        ("optimizer_config", {"gradclip": {"max_norm": 5}}, "gradclip", "grad_clip"),
        ("data", {"samples_per_gpus": 8, "train": {"type": "D"}}, "samples_per_gpus", "samples_per_gpu"),
        ("evaluation", {"intervall": 2}, "intervall", "interval"),
        ("log_config", {"intervall": 2}, "intervall", "interval"),
        ("runner", {"max_epochs": 2, "typ": "EpochBasedRunner"}, "typ", "type"),
    ],
)
def test_misspelt_key_of_a_section_raises(section: str, value: dict[str, Any], wrong: str, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        in_second_generation(Config({**FIRST, "data": {"val": {"type": "D"}}, section: value}))
    assert (caught.value.key, caught.value.suggestion) == (f"{section}.{wrong}", right)


def test_key_of_another_code_base_logs_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    in_second_generation(Config({**FIRST, "data": {"samples_per_epoch": 8, "train": {"type": "D"}}}))
    assert any("data.samples_per_epoch" in each for each in warnings_of(caplog))
