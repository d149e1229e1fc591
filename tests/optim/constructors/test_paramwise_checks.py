"""What is wrong with a `paramwise_cfg`, or has no effect."""

from typing import Any

import pytest
from torch import nn

from footplate.errors import ArgumentError
from footplate.optim.constructors import DefaultOptimWrapperConstructor


def said(caplog: pytest.LogCaptureFixture, paramwise_cfg: dict[str, Any], optimizer: dict[str, Any]) -> list[str]:
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
            "paramwise_cfg has an entry \"norm_decay_mul\" that is not known; did you mean 'norm_decay_mult'?",
        ),
    ],
)
def test_one_line(
    paramwise_cfg: dict[str, Any], optimizer: dict[str, Any], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert said(caplog, paramwise_cfg, optimizer) == [line]


def test_a_longer_key_does_not_hide_a_shorter_one(caplog: pytest.LogCaptureFixture) -> None:
    keys = {"backbone": {"lr_mult": 2.0}, "backbone.weight": {"lr_mult": 3.0}, "backbone.bias": {"lr_mult": 4.0}}
    assert said(caplog, {"custom_keys": keys}, SGD) == []


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
def test_what_cannot_be_read_names_its_key(paramwise_cfg: Any, key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        DefaultOptimWrapperConstructor({"optimizer": SGD}, paramwise_cfg)
    assert caught.value.key == key
