"""What `paramwise_cfg` says about one parameter."""

from collections import OrderedDict
from typing import Any

import pytest
from torch import nn

from footplate.optim import build_optim_wrapper
from footplate.optim.constructors import FirstGenerationRules, Place, Rules
from footplate.optim.constructors.paramwise_rules import is_deformable

NORM, DEPTHWISE, DENSE = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3)
ALL = {
    "norm_decay_mult": 0.1,
    "bias_decay_mult": 0.2,
    "dwconv_decay_mult": 0.3,
    "flat_decay_mult": 0.4,
    "bias_lr_mult": 2.0,
}


def place(module: nn.Module, name: str = "weight", prefix: str = "a.b", *, deformable: bool = False) -> Place:
    return Place(name, prefix, module, getattr(module, name).ndim, deformable)


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        (place(NORM), {"weight_decay": 0.1}),
        (place(NORM, "bias"), {"weight_decay": 0.1}),
        (place(DENSE), {}),
        (place(DENSE, "bias"), {"lr": 2.0, "weight_decay": 0.2}),
        (place(DEPTHWISE), {"weight_decay": 0.3}),
        (place(DEPTHWISE, "bias"), {"lr": 2.0, "weight_decay": 0.2}),
        (place(DENSE, "bias", deformable=True), {}),
    ],
)
def test_multipliers_by_kind(where: Place, settings: dict[str, float]) -> None:
    assert Rules(ALL, base_lr=1.0, base_wd=1.0).settings(where) == settings


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        (place(NORM, "bias"), {"weight_decay": 0.1}),
        (place(DEPTHWISE, "bias"), {"lr": 2.0, "weight_decay": 0.3}),
        (place(DENSE, "bias"), {"lr": 2.0, "weight_decay": 0.2}),
    ],
)
def test_the_first_generation_puts_depthwise_before_bias(where: Place, settings: dict[str, float]) -> None:
    assert FirstGenerationRules(ALL, base_lr=1.0, base_wd=1.0).settings(where) == settings


def test_in_the_first_generation_a_bias_rule_spares_norms_and_depthwise_convolutions() -> None:
    rules = FirstGenerationRules({"bias_decay_mult": 0.0}, base_lr=1.0, base_wd=1.0)
    assert rules.settings(place(NORM, "bias")) == rules.settings(place(DEPTHWISE, "bias")) == {}
    assert Rules({"bias_decay_mult": 0.0}, 1.0, 1.0).settings(place(NORM, "bias")) == {"weight_decay": 0.0}


def test_flat_parameters() -> None:
    rules = Rules({"flat_decay_mult": 0.0}, base_lr=1.0, base_wd=1.0)
    assert rules.settings(place(NORM)) == {"weight_decay": 0.0}
    assert rules.settings(place(DENSE)) == {}


@pytest.mark.parametrize(
    ("keys", "lr"),
    [
        ({"a": 2.0, "a.b": 3.0}, 3.0),  # the longest
        ({"b.": 2.0, "a.": 3.0}, 3.0),  # of equally long ones the first in the alphabet
        ({".weight": 5.0}, 5.0),
        ({"c": 5.0}, None),
    ],
)
def test_which_custom_key_decides(keys: dict[str, float], lr: float | None) -> None:
    custom_keys = {key: {"lr_mult": value} for key, value in keys.items()}
    rules = Rules({"custom_keys": custom_keys, "bias_lr_mult": 9.0}, base_lr=1.0, base_wd=None)
    assert rules.settings(place(DENSE)).get("lr") == lr


def test_a_custom_key_decides_alone_and_may_set_any_field() -> None:
    custom_keys = {"bias": {"decay_mult": 0.0, "lars_exclude": True, "momentum": 0.0}}
    rules = Rules({**ALL, "custom_keys": custom_keys}, base_lr=1.0, base_wd=1.0)
    found = rules.settings(place(DENSE, "bias"))
    assert found == {"weight_decay": 0.0, "lars_exclude": True, "momentum": 0.0}


def test_a_key_matches_from_the_dot_before_the_top() -> None:
    rules = Rules({"custom_keys": {".weight": {"lr_mult": 2.0}}}, base_lr=1.0, base_wd=None)
    assert rules.settings(place(DENSE, prefix="")) == {"lr": 2.0}


def test_the_offsets_of_deformable_convolutions() -> None:
    rules = Rules({"dcn_offset_lr_mult": 0.1, "bias_lr_mult": 2.0}, base_lr=1.0, base_wd=None)
    for name in ("weight", "bias"):
        where = place(DENSE, name, "layer.conv_offset", deformable=True)
        assert rules.settings(where) == {"lr": 0.1}
    assert rules.settings(place(DENSE, prefix="layer.conv_offset")) == {}


@pytest.mark.parametrize(
    ("name", "deformable"), [("ModulatedDeformConv2d", True), ("DeformConv2d", True), ("Conv", False)]
)
def test_deformable_convolutions_are_known_by_name(name: str, deformable: bool) -> None:
    base: Any = type(name, (nn.Module,), {})
    assert is_deformable(type("Pack", (base,), {})()) is deformable


def test_the_keys_that_decided_are_known_by_parameter() -> None:
    model = nn.Sequential(OrderedDict(head=nn.Linear(2, 2), norm=nn.BatchNorm1d(2), body=nn.Linear(2, 2)))
    paramwise = {"custom_keys": {"head": {"lr_mult": 10.0}}, "norm_decay_mult": 0.0, "bias_lr_mult": 2.0}
    optimizer = {"type": "SGD", "lr": 0.1, "weight_decay": 1e-4}
    wrapper = build_optim_wrapper(model, {"optimizer": optimizer, "paramwise_cfg": paramwise})
    assert wrapper.reasons == {
        "head.weight": ("custom_keys.head",),
        "head.bias": ("custom_keys.head",),
        "norm.weight": ("norm_decay_mult",),
        "norm.bias": ("norm_decay_mult",),
        "body.weight": (),
        "body.bias": ("bias_lr_mult",),
    }
