import copy
from typing import Any

import pytest

from footplate import Config
from footplate.error_context import origin_of
from footplate.errors import ConfigError
from footplate.first_generation.translation import Kind, translate
from footplate.first_generation.translation import is_first_generation as is_first
from tests.first_generation.translation.support import DATA, EPOCHS, ITERS, notes, sections


def test_translation_does_not_modify_its_input() -> None:
    cfg = {**ITERS, **DATA, "lr_config": {"policy": "poly", "power": 0.9}, "custom_hooks": [{"type": "EMAHook"}]}
    before = copy.deepcopy(cfg)
    translate(cfg)
    assert cfg == before


def test_scope_of_engine_sections_is_dropped_without_a_note() -> None:
    scope = {"_scope_": "mmseg"}
    text = {"type": "TextLoggerHook", **scope}
    cfg = {
        "runner": {"type": "IterBasedRunner", "max_iters": 9, **scope},
        "log_config": {"interval": 5, "hooks": [text, {"type": "TensorboardLoggerHook", **scope}]},
        "optimizer": {"type": "Adam", "lr": 0.1, **scope},
    }
    assert not any("_scope_" in note for kind in Kind for note in notes(cfg, kind))
    made = sections(cfg)
    assert made["optim_wrapper"]["optimizer"]["_scope_"] == "mmseg"
    assert "_scope_" not in str({key: value for key, value in made.items() if key != "optim_wrapper"})


def test_second_generation_config_is_returned_unchanged() -> None:
    cfg = Config({"optim_wrapper": {"optimizer": {"type": "SGD"}}})
    assert translate(cfg) is cfg


def test_result_is_a_second_generation_config() -> None:
    cfg = translate({**EPOCHS, **DATA, "optimizer": {"type": "SGD", "lr": 0.1}, "lr_config": {"policy": "fixed"}})
    assert not is_first(cfg)
    assert translate(cfg) is cfg


def test_sections_keep_the_origins_of_their_keys() -> None:
    text = "runner = dict(max_epochs=1)\ndata = dict(\n    train=dict(type='A'))\ncheckpoint_config = dict(interval=1)"
    cfg = translate(Config.fromstring(text, ".py"))
    assert [
        origin_of(cfg.train_cfg, "max_epochs").line,  # type: ignore[union-attr]
        origin_of(cfg.train_dataloader.dataset.dataset, "type").line,  # type: ignore[union-attr]
        origin_of(cfg.default_hooks.checkpoint, "interval").line,  # type: ignore[union-attr]
    ] == [1, 3, 4]


def test_existing_sections_take_precedence() -> None:
    found = sections({**EPOCHS, "cudnn_benchmark": True, "env_cfg": {"cudnn_benchmark": False, "dist_cfg": {}}})
    assert found["env_cfg"] == {"cudnn_benchmark": False, "dist_cfg": {}}


def test_user_defined_keys_are_kept() -> None:
    found = sections({**EPOCHS, "img_norm_cfg": {"mean": [0.0]}, "model": {"type": "M"}, "work_dir": "w"})
    assert (found["img_norm_cfg"], found["model"], found["work_dir"]) == ({"mean": [0.0]}, {"type": "M"}, "w")


WARNED: list[tuple[dict[str, Any], str, str]] = [
    ({"device": "cuda"}, "cpu", "device: 'cuda' is not used; the run is on 'cpu', the device of this machine"),
    ({"gpu_ids": [0, 1]}, "cpu", "gpu_ids: [0, 1] is not used; the run is on 'cpu'"),
    ({"gpu_ids": [0, 1]}, "cuda", "gpu_ids: to train on 2 devices, use torchrun --nproc-per-node 2"),
    (
        {"optimizer": {"type": "SGD"}, "fp16": {"loss_scale": 512.0}},
        "cpu",
        "fp16: float16 needs an accelerator; on this CPU, mixed precision uses bfloat16",
    ),
    ({"total_epochs": 3}, "cpu", "total_epochs: 3 contradicts runner, whose length 12 is used"),
    ({"runner": {"max_epochs": 1, "max_loops": 2}}, "cpu", "runner.max_loops: 2 has no counterpart"),
    ({"log_config": {"intervall": 5}}, "cpu", "log_config.intervall: is an unknown key; did you mean 'interval'?"),
    ({"log_config": {"hooks": [{"type": "PaviLoggerHook"}]}}, "cpu", "log_config.hooks[0]: PaviLoggerHook has no"),
    ({**DATA, "evaluation": {"intervall": 5}}, "cpu", "evaluation.intervall: is passed to evaluate() of the"),
    ({"dist_params": {"init_method": "env://"}}, "cpu", "dist_params.init_method: has no effect; the launcher"),
]


@pytest.mark.parametrize(("cfg", "device", "warning"), WARNED)
def test_setting_that_cannot_be_kept_is_one_warning(cfg: dict[str, Any], device: str, warning: str) -> None:
    found = [note for note in notes({**EPOCHS, **cfg}, Kind.WARNING, device=device) if note.startswith(warning)]
    assert len(found) == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"runner": {"max_iters": "many"}, "lr_config": {"policy": "poly"}},
        "the length of a run must be a positive number",
    ),
    ({"runner": None, "total_epochs": 0}, "the length of a run must be a positive number"),
    ({"workflow": [("val", 1)]}, "workflow has no training phase"),
    ({"workflow": [("train", 1), ("valid", 1)]}, "a workflow phase must be"),
    ({"workflow": [("train", 0)]}, "a workflow phase must be"),
    ({"workflow": [("train", 1), ("val", 1)]}, "there is no data.val"),
    ({"data": [1]}, "'data' must be a dict"),
    ({"optimizer_config": {"type": "OptimizrHook"}}, "unknown optimizer hook 'OptimizrHook'"),
    ({"lr_config": {"policy": "setp"}}, 'unknown policy "setp"'),
]


@pytest.mark.parametrize(("cfg", "message"), REFUSED)
def test_invalid_setting_raises(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate({**EPOCHS, **cfg})


@pytest.mark.parametrize(
    ("key", "value"),
    [("optimizer_config", 5), ("optimizer_config", "x"), ("optimizer", {"a": 1}), ("optimizer", {1: 2})],
)
def test_value_of_wrong_type_raises_with_its_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"the first-generation key '{key}' cannot be translated") as caught:
        translate({**EPOCHS, "optimizer": {"type": "SGD", "lr": 0.1}, key: value})
    assert (caught.value.key, caught.value.found) == (key, value)
    assert len(str(caught.value).splitlines()) <= 5
