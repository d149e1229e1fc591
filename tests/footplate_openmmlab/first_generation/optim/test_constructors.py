"""Constructors of the first generation."""

from torch import nn
from torch.optim import Optimizer

from footplate_openmmlab.first_generation.optim.constructors import (
    DefaultOptimizerConstructor,
    PatternOptimWrapperConstructor,
)

SGD = {"type": "SGD", "lr": 1.0, "weight_decay": 0.5}


def test_constructor_returns_an_optimizer() -> None:
    optimizer = DefaultOptimizerConstructor(SGD, {"bias_lr_mult": 2.0})(nn.Linear(1, 1))
    assert isinstance(optimizer, Optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 2.0]


def test_each_parameter_has_a_group_if_settings_differ_by_parameter() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    groups = DefaultOptimizerConstructor(SGD, {"bias_lr_mult": 2.0})(model).param_groups
    assert [(group["params"], group["lr"]) for group in groups] == [
        ([parameter], 2.0 if name.endswith("bias") else 1.0) for name, parameter in model.named_parameters()
    ]
    assert len(DefaultOptimizerConstructor(SGD)(model).param_groups) == 1


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(1)
        self.fc = nn.Linear(1, 1)


def test_patterns_are_applied_in_their_order() -> None:
    options = {
        r"(bn|gn)(\d+)?.(weight|bias)": {"weight_decay": 0.0, "lars_exclude": True},
        "bias": {"weight_decay": 0.25, "lr_mult": 2.0},
    }
    model = Net()
    wrapper = PatternOptimWrapperConstructor({"optimizer": SGD}, options)(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(each)]: (group["lr"], group["weight_decay"], group.get("lars_exclude"))
        for group in wrapper.param_groups
        for each in group["params"]
    }
    assert found == {
        "bn1.weight": (1.0, 0.0, True),
        "bn1.bias": (2.0, 0.25, True),
        "fc.weight": (1.0, 0.5, None),
        "fc.bias": (2.0, 0.25, None),
    }


def test_patterns_do_not_apply_to_frozen_parameters() -> None:
    model = Net()
    model.fc.requires_grad_(False)
    wrapper = PatternOptimWrapperConstructor({"optimizer": SGD}, {"fc": {"lr": 9.0}})(model)
    assert wrapper.get_lr() == {"lr": [1.0]}
