from pathlib import Path
from typing import Any

import pytest
from torch import nn

from footplate.config import Config
from footplate.optim import paramwise
from footplate.optim.constructors import DefaultOptimWrapperConstructor
from footplate.optim.paramwise import ParamLocation, ParamwiseRules
from footplate_openmmlab.first_generation.optim.constructors import FirstGenerationRules

NORM, DEPTHWISE, DENSE = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3)
ALL = {
    "norm_decay_mult": 0.1,
    "bias_decay_mult": 0.2,
    "dwconv_decay_mult": 0.3,
    "flat_decay_mult": 0.4,
    "bias_lr_mult": 2.0,
}


def location(
    module: nn.Module, name: str = "weight", prefix: str = "a.b", *, deformable: bool = False
) -> ParamLocation:
    return ParamLocation(name, prefix, module, getattr(module, name).ndim, deformable)


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        (location(NORM), {"weight_decay": 0.1}),
        (location(NORM, "bias"), {"weight_decay": 0.1}),
        (location(DENSE, "bias"), {"lr": 2.0, "weight_decay": 0.2}),
        (location(DEPTHWISE), {"weight_decay": 0.3}),
        (location(DEPTHWISE, "bias"), {"lr": 2.0, "weight_decay": 0.2}),
    ],
)
def test_multipliers_by_kind_of_parameter(where: ParamLocation, settings: dict[str, float]) -> None:
    assert ParamwiseRules(ALL, base_lr=1.0, base_wd=1.0).settings(where)[0] == settings


def test_first_generation_bias_decay_mult_excludes_norms_and_depthwise_convolutions() -> None:
    rules = FirstGenerationRules({"bias_decay_mult": 0.0}, base_lr=1.0, base_wd=1.0)
    assert rules.settings(location(NORM, "bias")) == rules.settings(location(DEPTHWISE, "bias")) == ({}, ())
    second = ParamwiseRules({"bias_decay_mult": 0.0}, 1.0, 1.0)
    assert second.settings(location(NORM, "bias")) == ({"weight_decay": 0.0}, ("bias_decay_mult",))


@pytest.mark.parametrize(
    ("keys", "lr"),
    [
        ({"a": 2.0, "a.b": 3.0}, 3.0),  # the longest
        ({"b.": 2.0, "a.": 3.0}, 3.0),  # of equally long keys the alphabetically first
    ],
)
def test_longest_matching_custom_key_is_used(keys: dict[str, float], lr: float | None) -> None:
    custom_keys = {key: {"lr_mult": value} for key, value in keys.items()}
    rules = ParamwiseRules({"custom_keys": custom_keys, "bias_lr_mult": 9.0}, base_lr=1.0, base_wd=None)
    assert rules.settings(location(DENSE))[0].get("lr") == lr


def warnings_of(
    caplog: pytest.LogCaptureFixture, paramwise_cfg: dict[str, Any], optimizer: dict[str, Any]
) -> list[str]:
    model = nn.Sequential()
    model.add_module("backbone", nn.Linear(1, 1))
    DefaultOptimWrapperConstructor({"optimizer": optimizer}, paramwise_cfg)(model)
    return [record.getMessage() for record in caplog.records]


SGD = {"type": "SGD", "lr": 0.1, "weight_decay": 0.1}
RPROP = {"type": "Rprop", "lr": 0.1}


def test_wrong_custom_keys_are_reported_with_their_line_unless_they_are_in_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    package = tmp_path / "package" / "base.py"
    package.parent.mkdir()
    package.write_text("custom_keys = dict(pos_block=dict(decay_mult=0.0), head=dict(lr_mult=2.0))\n")
    own = tmp_path / "own.py"
    own.write_text("_base_ = 'package/base.py'\n\ncustom_keys = dict(head=dict(\n    lrmult=10.0))\n")
    cfg = Config.fromfile(str(own))
    assert list(cfg.custom_keys) == ["pos_block", "head"]
    monkeypatch.setattr(paramwise, "NOT_USER_CODE", (f"{package.parent}/",))
    assert warnings_of(caplog, {"custom_keys": cfg.custom_keys}, SGD) == [
        f"{own}:4: unknown key 'lrmult' in the custom key 'head' of paramwise_cfg; did you mean 'lr_mult'?",
        f"{own}:3: the custom key 'head' in paramwise_cfg matches no parameter",
    ]


@pytest.mark.parametrize(
    ("paramwise_cfg", "optimizer", "line"),
    [
        (
            {"custom_keys": {"backbon.": {"lr_mult": 2.0}}},
            SGD,
            "the custom key 'backbon.' in paramwise_cfg matches no parameter; did you mean 'backbone'?",
        ),
        (
            {"norm_decay_mul": 0.0},
            SGD,
            "unknown key 'norm_decay_mul' in paramwise_cfg; did you mean 'norm_decay_mult'?",
        ),
    ],
)
def test_entries_without_effect_are_warned_about(
    paramwise_cfg: dict[str, Any], optimizer: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(caplog, paramwise_cfg, optimizer) == [line]
