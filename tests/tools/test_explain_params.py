from collections.abc import Callable

import pytest
from torch import nn

from footplate.config import Config
from footplate.tools.explain_params import explain_params, groups_of


def test_groups_show_settings_sizes_and_keys(write: Callable[..., Config]) -> None:
    found = groups_of(write())
    stem, plain, norms = sorted(found.groups, key=lambda group: (group.settings["lr"], -group.settings["weight_decay"]))
    assert (stem.reasons, plain.reasons, norms.reasons) == (["custom_keys.stem"], [], ["norm_decay_mult"])
    assert stem.multipliers == pytest.approx({"lr": 0.1})
    assert norms.multipliers == {"weight_decay": 0.0}
    assert all("stem" in name for name in stem.names)
    assert plain.size == sum(p.size for p in found.groups) - stem.size - norms.size > 0
    text = explain_params(found)
    assert "SGD  lr 0.01 (x0.1), momentum 0, weight_decay 0.01" in text
    assert "set by custom_keys.stem" in text
    assert "set by the optimizer only" in text


class HalfFrozen(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))


def test_frozen_parameters_are_listed(write: Callable[..., Config]) -> None:
    cfg = write()
    cfg["model"] = {"type": HalfFrozen}
    found = groups_of(cfg)
    assert found.frozen == ["0.weight", "0.bias"]
    assert "frozen: 2 tensors: 0.weight, 0.bias" in explain_params(found)


def test_stand_in_replaces_a_model_that_is_not_installed(write: Callable[..., Config]) -> None:
    cfg = write("model = dict(type='Unheard', backbone=dict(type='A'), decode_head=dict(type='B'))")
    found = groups_of(cfg)
    assert found.model.startswith("'Unheard' is not installed; a placeholder")
    names = [name for group in found.groups for name in group.names]
    assert {name.partition(".")[0] for name in names} == {"backbone", "decode_head"}
    other = write(name="other.py")
    assert groups_of(cfg, other=other).model == "model SmallSegmentor"


def test_groups_of_several_optimizers(write: Callable[..., Config]) -> None:
    part = "dict(optimizer=dict(type='SGD', lr={}))"
    cfg = write(
        "model = dict(type='Unheard', backbone=dict(type='A'), head=dict(type='B'))\n"
        f"optim_wrapper = dict(backbone={part.format(0.1)}, head={part.format(0.2)})"
    )
    groups = groups_of(cfg).groups
    assert [(group.optimizer, group.settings["lr"]) for group in groups] == [("backbone: SGD", 0.1), ("head: SGD", 0.2)]
