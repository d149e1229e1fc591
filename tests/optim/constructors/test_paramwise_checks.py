"""Checks and warnings of `paramwise_cfg`."""

from typing import Any

import pytest
from torch import nn

from footplate.errors import ArgumentError
from footplate.optim.constructors import DefaultOptimWrapperConstructor


def warnings_of(
    caplog: pytest.LogCaptureFixture, paramwise_cfg: dict[str, Any], optimizer: dict[str, Any]
) -> list[str]:
    model = nn.Sequential()
    model.add_module("backbone", nn.Linear(1, 1))
    DefaultOptimWrapperConstructor({"optimizer": optimizer}, paramwise_cfg)(model)
    return [record.getMessage() for record in caplog.records]


SGD = {"type": "SGD", "lr": 0.1, "weight_decay": 0.1}
RPROP = {"type": "Rprop", "lr": 0.1}


@pytest.mark.parametrize(
    ("paramwise_cfg", "optimizer", "line"),
    [
        (
            {"custom_keys": {"backbon.": {"lr_mult": 2.0}}},
            SGD,
            "the custom key \"backbon.\" of paramwise_cfg matches no parameter; did you mean 'backbone'?",
        ),
        (
            {"custom_keys": {"query_embed": {"lr_mult": 2.0}}},
            SGD,
            'the custom key "query_embed" of paramwise_cfg matches no parameter',
        ),
        (
            {"norm_decay_mult": 0.0},
            RPROP,
            '"norm_decay_mult" of paramwise_cfg has no effect: the optimizer has no "weight_decay"',
        ),
        (
            {"custom_keys": {"backbone": {"decay_mult": 0.0}}},
            RPROP,
            '"decay_mult" of paramwise_cfg has no effect: the optimizer has no "weight_decay"',
        ),
        (
            {"norm_decay_mul": 0.0},
            SGD,
            "paramwise_cfg has the unknown key \"norm_decay_mul\"; did you mean 'norm_decay_mult'?",
        ),
    ],
)
def test_entries_without_effect_are_warned_about(
    paramwise_cfg: dict[str, Any], optimizer: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(caplog, paramwise_cfg, optimizer) == [line]


def test_no_warning_about_a_key_that_longer_keys_override(caplog: pytest.LogCaptureFixture) -> None:
    keys = {"backbone": {"lr_mult": 2.0}, "backbone.weight": {"lr_mult": 3.0}, "backbone.bias": {"lr_mult": 4.0}}
    assert warnings_of(caplog, {"custom_keys": keys}, SGD) == []


@pytest.mark.parametrize(
    ("paramwise_cfg", "key"),
    [
        ([], "paramwise_cfg"),
        ({"custom_keys": ["backbone"]}, "paramwise_cfg.custom_keys"),
        ({"custom_keys": {"backbone": 0.1}}, "paramwise_cfg.custom_keys.backbone"),
        ({"custom_keys": {"backbone": {"lr_mult": "10"}}}, "paramwise_cfg.custom_keys.backbone.lr_mult"),
        ({"norm_decay_mult": "0"}, "paramwise_cfg.norm_decay_mult"),
    ],
)
def test_invalid_entries_are_refused_with_their_key(paramwise_cfg: Any, key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        DefaultOptimWrapperConstructor({"optimizer": SGD}, paramwise_cfg)
    assert caught.value.key == key
