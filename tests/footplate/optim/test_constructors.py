from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError, BuildError
from footplate.optim import OptimWrapperDict, build_optim_wrapper
from footplate.optim.constructors import DefaultOptimWrapperConstructor

SGD = {"type": "SGD", "lr": 1.0, "weight_decay": 0.5}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 1)


def groups(model: nn.Module, paramwise_cfg: Any = None, **optimizer: Any) -> dict[str, dict[str, Any]]:
    """Returns the settings of each parameter by its name."""
    built = DefaultOptimWrapperConstructor({"optimizer": {**SGD, **optimizer}}, paramwise_cfg)(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(each)]: group for group in built.param_groups for each in group["params"]}


DIFFERING = (
    "Some shared parameters (%d) have different settings under different names. The settings for the first name are "
    "used."
)


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize(
    ("key", "names", "differing"),
    [
        ("teacher", ("teacher.weight", "head.weight"), 2),  # a module with two names
        ("tied", ("tied", "scale"), 0),  # a parameter with two names in one module, of which torch visits only one
        ("tail.w", ("tail.weight", "head.weight"), 1),  # a parameter in two modules
    ],
)
def test_custom_key_for_the_second_name_of_a_parameter_causes_a_warning(
    key: str, names: tuple[str, str], differing: int, *, bypass: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = Net()
    model.scale = model.tied = nn.Parameter(torch.ones(1))
    model.teacher, model.tail = model.head, nn.Linear(2, 1)
    model.tail.weight = model.head.weight
    found = groups(model, {"custom_keys": {key: {"lr_mult": 0.0}}, "bypass_duplicate": bypass})
    assert found[names[1]]["lr"] == 1.0
    first, second = names
    assert caplog.messages == [
        f"the custom key '{key}' in paramwise_cfg has no effect: '{first}' is the same parameter as '{second}'; use "
        "that name",
        *([DIFFERING % differing] if differing and not bypass else []),
    ]


def test_offsets_of_deformable_convolutions_have_their_own_lr() -> None:
    deformable = type("DeformConv2d", (nn.Module,), {})()
    deformable.conv_offset = nn.Conv2d(1, 1, 1)
    model = nn.Sequential()
    model.add_module("layer", deformable)
    found = groups(model, {"dcn_offset_lr_mult": 0.1, "bias_lr_mult": 2.0})
    assert {name: group["lr"] for name, group in found.items()} == {
        "layer.conv_offset.weight": 0.1,
        "layer.conv_offset.bias": 0.1,
    }


@pytest.mark.parametrize(
    ("section", "error", "key"),
    [
        ({}, ArgumentError, "optimizer"),
        ({"optimizer": {"type": "SGD", "lr": "1"}}, ArgumentError, "optimizer.lr"),
        ({"optimizer": SGD, "acumulative_counts": 2}, BuildError, "acumulative_counts"),
    ],
)
def test_invalid_sections_are_refused(section: Any, error: type[Any], key: str) -> None:
    with pytest.raises(error) as caught:
        DefaultOptimWrapperConstructor(section)(Net())
    assert caught.value.key == key


PLAIN_SGD = {"type": "SGD", "lr": 1.0}


def model() -> nn.Module:
    return nn.ModuleDict({"generator": nn.Sequential(nn.Linear(1, 1)), "discriminator": nn.Linear(1, 1)})


def test_each_submodule_has_its_wrapper() -> None:
    section = {
        "constructor": "MultiOptimWrapperConstructor",
        "generator": {"type": "OptimWrapper", "optimizer": PLAIN_SGD, "paramwise_cfg": {"bias_lr_mult": 2.0}},
        "discriminator": {"optimizer": {**PLAIN_SGD, "lr": 3.0}, "accumulative_counts": 2},
    }
    wrappers = build_optim_wrapper(model(), section)
    assert isinstance(wrappers, OptimWrapperDict)
    assert wrappers.get_lr() == {"generator.lr": [1.0, 2.0], "discriminator.lr": [3.0]}


def test_wrapper_that_is_not_registered_is_unwrapped() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})

    class Decay(DefaultOptimWrapperConstructor):
        def add_params(self, params: list[Any], module: Any, **_: Any) -> None:  # type: ignore[override]
            params += [
                {"params": [*module[name].parameters()], "lr": lr} for name, lr in (("backbone", 1), ("head", 2))
            ]

    assert [each["lr"] for each in Decay({"optimizer": SGD})(Wrapper()).param_groups] == [1, 2]
    with_own = Wrapper()
    with_own.scale = nn.Parameter(torch.ones(1))
    wrapper = DefaultOptimWrapperConstructor({"optimizer": SGD})(with_own)
    assert any(parameter is with_own.scale for parameter in wrapper.param_groups[0]["params"])
