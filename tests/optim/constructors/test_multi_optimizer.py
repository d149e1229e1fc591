"""The constructor for several optimizers."""

from typing import Any

import pytest
from torch import nn

from footplate.errors import ArgumentError, BuildError
from footplate.optim import OptimWrapperDict, build_optim_wrapper

SGD = {"type": "SGD", "lr": 1.0}


def model() -> nn.Module:
    return nn.ModuleDict({"generator": nn.Sequential(nn.Linear(1, 1)), "discriminator": nn.Linear(1, 1)})


def test_each_submodule_has_its_wrapper() -> None:
    section = {
        "constructor": "MultiOptimWrapperConstructor",
        "generator": {"type": "OptimWrapper", "optimizer": SGD, "paramwise_cfg": {"bias_lr_mult": 2.0}},
        "discriminator": {"optimizer": {**SGD, "lr": 3.0}, "accumulative_counts": 2},
    }
    wrappers = build_optim_wrapper(model(), section)
    assert isinstance(wrappers, OptimWrapperDict)
    assert wrappers.get_lr() == {"generator.lr": [1.0, 2.0], "discriminator.lr": [3.0]}


def test_nested_submodule_is_found_by_its_path() -> None:
    wrappers: Any = build_optim_wrapper(model(), {"generator.0": {"optimizer": SGD}})
    assert [len(group["params"]) for group in wrappers["generator.0"].param_groups] == [2]


def test_wrapper_objects_are_used_unchanged() -> None:
    wrapper = build_optim_wrapper(nn.Linear(1, 1), {"optimizer": SGD})
    wrappers: Any = build_optim_wrapper(model(), {"generator": wrapper, "discriminator": {"optimizer": SGD}})
    assert wrappers["generator"] is wrapper


@pytest.mark.parametrize(
    ("section", "error", "key"),
    [
        ({"generatr": {"optimizer": SGD}}, BuildError, "optim_wrapper.generatr"),
        ({"constructor": "MultiOptimWrapperConstructor", "generator": 3}, ArgumentError, "optim_wrapper.generator"),
        ({"generator": {"optimizer": {**SGD, "lr": ""}}}, ArgumentError, "optim_wrapper.generator.optimizer.lr"),
    ],
)
def test_invalid_sections_are_refused(section: Any, error: type[Any], key: str) -> None:
    with pytest.raises(error) as caught:
        build_optim_wrapper(model(), section)
    assert caught.value.key == key
