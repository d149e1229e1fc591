"""Subclasses of the constructors that set attributes and override methods, as code written for MMEngine does."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from footplate.optim import build_optim_wrapper
from footplate.optim.constructors import DefaultOptimWrapperConstructor
from footplate_openmmlab.first_generation.optim.constructors import DefaultOptimizerConstructor

SGD = {"type": "SGD", "lr": 1.0, "weight_decay": 0.5}
GENERATIONS = [DefaultOptimWrapperConstructor, DefaultOptimizerConstructor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(1, 1)
        self.head = nn.Linear(1, 1)


def built(base: type, before: Any = None, paramwise_cfg: Any = None, **members: Any) -> dict[str, tuple[float, float]]:
    """Returns lr and weight decay by parameter name, for a subclass whose `__call__` first calls `before`."""

    def call(self: Any, model: nn.Module) -> Any:
        if before is not None:
            before(self, model)
        return base.__call__(self, model)

    kind = type("Own", (base,), {"__call__": call, **members})
    model = Net()
    cfg = {"optimizer": dict(SGD), "constructor": kind, "paramwise_cfg": paramwise_cfg}
    wrapper = build_optim_wrapper(model, cfg)
    names = {id(each): name for name, each in model.named_parameters()}
    return {
        names[id(each)]: (group["lr"], group["weight_decay"])
        for group in wrapper.param_groups
        for each in group["params"]
    }


@pytest.mark.parametrize("base", GENERATIONS)
def test_paramwise_cfg_set_in_call_is_used(base: type) -> None:
    def before(self: Any, model: nn.Module) -> None:
        self.paramwise_cfg = {"custom_keys": {"body": {"lr_mult": 0.1}}, "bias_decay_mult": 0.0}

    found = built(base, before)

    assert found["body.weight"] == (0.1, 0.5)
    assert found["head.weight"] == (1.0, 0.5)
    assert found["head.bias"] == (1.0, 0.0)


@pytest.mark.parametrize("base", GENERATIONS)
def test_overridden_is_in_finds_duplicates(base: type) -> None:
    def is_in(self: Any, param_group: Mapping[str, Any], param_group_list: Sequence[Any]) -> bool:
        return len(param_group_list) >= 2

    assert [*built(base, None, {"bypass_duplicate": True}, _is_in=is_in)] == ["body.weight", "body.bias"]


@pytest.mark.parametrize("base", GENERATIONS)
def test_a_subclass_that_adds_parameters_may_have_keys_of_its_own(base: Any, caplog: pytest.LogCaptureFixture) -> None:
    def add_params(self: Any, params: list[Any], module: nn.Module, **options: Any) -> None:
        for name, each in module.named_parameters():
            params.append({"params": [each], "lr": self.paramwise_cfg["num_layers"] / (1 + ("head" in name))})

    found = built(base, None, {"num_layers": 4, "decay_type": "layer_wise"}, add_params=add_params)
    assert (found["body.weight"][0], found["head.weight"][0]) == (4.0, 2.0)
    assert caplog.messages == []
    built(base, None, {"num_layers": 4})
    assert caplog.messages == ["unknown key 'num_layers' in paramwise_cfg"]
    caplog.clear()
    built(base, None, {"head_mult": 4}, make_optimizer=lambda self, model: torch.optim.SGD(model.parameters(), 1.0))
    assert caplog.messages == []
