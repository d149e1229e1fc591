"""Constructors of the first generation."""

from torch import nn

from footplate_openmmlab.first_generation.optim.constructors import (
    PatternOptimWrapperConstructor,
)

SGD = {"type": "SGD", "lr": 1.0, "weight_decay": 0.5}


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
