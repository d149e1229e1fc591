from typing import Any

import pytest

from footplate import Config, extensions
from footplate.error_context import origin_of
from footplate.errors import ConfigError
from footplate_openmmlab.first_generation.translation.config_translation import (
    is_first_generation,
    translate,
    warn_about_leftovers,
)
from footplate_openmmlab.first_generation.translation.draft import Kind
from tests.footplate_openmmlab.first_generation.translation.support import DATA, EPOCHS, notes, sections

SGD = {"type": "SGD", "lr": 0.1}
WRAPPER = {"optimizer": SGD}
COMPLETE_FIRST = {"optimizer": SGD, **DATA, **EPOCHS}


@pytest.mark.parametrize(
    ("cfg", "first"),
    [
        ({"optimizer": SGD}, True),
        ({"total_epochs": 12}, True),
        ({"checkpoint_config": {"interval": 1}}, True),
        ({"optim_wrapper": WRAPPER, "runner": {}, "data": {}, "evaluation": {}, "fp16": {}, "total_iters": 1}, False),
        ({"optimizer": SGD, "train_dataloader": {}}, False),
        ({"optim_wrapper": WRAPPER, "train_dataloader": {}, "lr_config": {}, "checkpoint_config": {}}, False),
        ({**COMPLETE_FIRST, "lr_config": {}, "param_scheduler": {}}, True),
        ({"test_dataloader": {}, "cudnn_benchmark": True}, False),
        ({"model": {"type": "X"}}, False),
    ],
)
def test_generation_is_detected(cfg: dict[str, Any], first: bool) -> None:
    assert is_first_generation(cfg) is first


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


WARNED: list[tuple[dict[str, Any], str, str]] = [
    ({"device": "cuda"}, "cpu", "device: ignoring 'cuda'; the run uses 'cpu'"),
    (
        {"optimizer": {"type": "SGD"}, "fp16": {"loss_scale": 512.0}},
        "cpu",
        "fp16: float16 needs an accelerator; on this CPU, mixed precision uses bfloat16",
    ),
    ({**DATA, "evaluation": {"intervall": 5}}, "cpu", "evaluation.intervall: passed to the dataset's evaluate()"),
    ({"dist_params": {"init_method": "env://"}}, "cpu", "dist_params.init_method: has no effect; the launcher"),
]


@pytest.mark.parametrize(("cfg", "device", "warning"), WARNED)
def test_setting_that_cannot_be_kept_is_one_warning(cfg: dict[str, Any], device: str, warning: str) -> None:
    found = [note for note in notes({**EPOCHS, **cfg}, Kind.WARNING, device=device) if note.startswith(warning)]
    assert len(found) == 1


FIRST: dict[str, Any] = {
    "model": {"type": "M"},
    "optimizer": {"type": "SGD", "lr": 0.1},
    "lr_config": {"policy": "fixed"},
    "runner": {"type": "EpochBasedRunner", "max_epochs": 2},
}


def test_leftovers_of_the_second_generation_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    lines = ["visualizer = dict(type='PoseLocalVisualizer')", "test_dataloader = dict()"]
    lines += [f"{key} = {value}" for key, value in COMPLETE_FIRST.items()]
    cfg = extensions.translate(Config.fromstring("\n".join(lines), ".py"))
    assert "visualizer" not in cfg
    assert cfg["test_dataloader"]["dataset"]["dataset"]["type"] == "C"
    left = [record.getMessage() for record in caplog.records if "second-generation section" in record.getMessage()]
    assert [message.split(": ")[:2] for message in left] == [
        ["<string>.py:2", "test_dataloader"],
        ["<string>.py:1", "visualizer"],
    ]


def test_leftovers_of_the_first_generation_are_warnings_except_keys_of_both(caplog: pytest.LogCaptureFixture) -> None:
    cfg = Config({"sync_bn": "torch", "lr_config": {"policy": "fixed"}, "train_dataloader": {}})
    warn_about_leftovers(cfg)
    assert caplog.messages == ["First-generation keys in a second-generation config have no effect: lr_config"]


def test_keys_of_both_generations_raise() -> None:
    text = "optim_wrapper = dict(optimizer=dict(type='SGD'))\ndefault_hooks = dict()\nlr_config = dict()"
    with pytest.raises(ConfigError) as caught:
        extensions.translate(Config.fromstring(text, ".py"))
    assert str(caught.value).splitlines()[:4] == [
        "the config mixes optimization keys of both generations",
        "  at <string>.py:3, key lr_config",
        "  first generation: lr_config",
        "  second generation: optim_wrapper, default_hooks",
    ]


@pytest.mark.parametrize(
    ("section", "value", "wrong", "right"),
    [
        ("optimizer_config", {"gradclip": {"max_norm": 5}}, "gradclip", "grad_clip"),
        ("data", {"samples_per_gpus": 8, "train": {"type": "D"}}, "samples_per_gpus", "samples_per_gpu"),
    ],
)
def test_misspelt_key_of_a_section_raises(section: str, value: dict[str, Any], wrong: str, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        extensions.translate(Config({**FIRST, "data": {"val": {"type": "D"}}, section: value}))
    assert (caught.value.key, caught.value.suggestion) == (f"{section}.{wrong}", right)
