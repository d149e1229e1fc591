"""Subclasses of the constructors that set attributes and override methods, as code written for MMEngine does."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from footplate.errors import ArgumentError, BuildError
from footplate.optim import build_optim_wrapper
from footplate.optim.constructors import DefaultOptimizerConstructor, DefaultOptimWrapperConstructor
from footplate.optim.wrappers import AmpOptimWrapper, OptimWrapper

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
def test_paramwise_cfg_modified_in_call_is_used(base: type) -> None:
    def before(self: Any, model: nn.Module) -> None:
        self.paramwise_cfg["custom_keys"]["body"] = {"lr_mult": 0.1}

    found = built(base, before, {"custom_keys": {"head": {"decay_mult": 0.0}}})

    assert found["body.weight"] == (0.1, 0.5)
    assert found["head.weight"] == (1.0, 0.0)


@pytest.mark.parametrize("base", GENERATIONS)
def test_paramwise_cfg_set_in_call_is_checked(base: type) -> None:
    def before(self: Any, model: nn.Module) -> None:
        self.paramwise_cfg = {"bias_lr_mult": "a half"}

    with pytest.raises(ArgumentError, match='"bias_lr_mult" must be a finite number'):
        built(base, before)


@pytest.mark.parametrize("base", GENERATIONS)
def test_multipliers_apply_to_base_lr_and_base_wd(base: type) -> None:
    def before(self: Any, model: nn.Module) -> None:
        self.base_lr, self.base_wd = 10.0, 0.2

    found = built(base, before, {"custom_keys": {"body": {"lr_mult": 0.5, "decay_mult": 0.5}}})

    assert found["body.weight"] == (5.0, 0.1)
    assert found["head.weight"] == (1.0, 0.5)


@pytest.mark.parametrize("base", GENERATIONS)
def test_optimizer_cfg_set_in_call_is_used(base: type) -> None:
    def before(self: Any, model: nn.Module) -> None:
        self.optimizer_cfg = {**self.optimizer_cfg, "lr": 2.0, "weight_decay": 0.25}

    assert set(built(base, before).values()) == {(2.0, 0.25)}


def test_optim_wrapper_cfg_set_in_call_is_used() -> None:
    class Own(DefaultOptimWrapperConstructor):
        def __call__(self, model: nn.Module) -> Any:
            self.optim_wrapper_cfg = {**self.optim_wrapper_cfg, "type": "AmpOptimWrapper", "dtype": "bfloat16"}
            return super().__call__(model)

    assert isinstance(build_optim_wrapper(Net(), {"optimizer": SGD, "constructor": Own}), AmpOptimWrapper)


@pytest.mark.parametrize("base", GENERATIONS)
def test_overridden_is_in_finds_duplicates(base: type) -> None:
    def is_in(self: Any, param_group: Mapping[str, Any], param_group_list: Sequence[Any]) -> bool:
        return len(param_group_list) >= 2

    assert [*built(base, None, {"bypass_duplicate": True}, _is_in=is_in)] == ["body.weight", "body.bias"]


@pytest.mark.parametrize("base", GENERATIONS)
def test_is_in_compares_parameters_by_identity(base: Any) -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    constructor = base({"optimizer": SGD} if base is DefaultOptimWrapperConstructor else SGD)

    assert constructor._is_in({"params": [first]}, [{"params": [second]}, {"params": first}])
    assert not constructor._is_in({"params": [first]}, [{"params": [second]}])


@pytest.mark.parametrize("base", GENERATIONS)
def test_overridden_validate_cfg_replaces_the_checks(base: type) -> None:
    found = built(base, None, {"num_layers": "twelve"}, _validate_cfg=lambda self: None)

    assert set(found.values()) == {(1.0, 0.5)}


@pytest.mark.parametrize("base", GENERATIONS)
def test_no_warnings_for_overridden_add_params(base: type, caplog: pytest.LogCaptureFixture) -> None:
    def add_params(self: Any, params: list[Any], module: nn.Module, **kwargs: Any) -> None:
        for name, parameter in module.named_parameters():
            mult = next(
                each["lr_mult"] for key, each in self.paramwise_cfg["custom_keys"].items() if name[0] == key[-1]
            )
            params.append({"params": parameter, "lr": self.base_lr * mult})

    with caplog.at_level(logging.WARNING):
        found = built(
            base, None, {"custom_keys": {"of_b": {"lr_mult": 2}, "of_h": {"lr_mult": 3}}}, add_params=add_params
        )

    assert found["body.weight"] == (2.0, 0.5)
    assert found["head.bias"] == (3.0, 0.5)
    assert not caplog.records


def test_wrapper_built_by_a_subclass_has_parameter_names() -> None:
    class Own(DefaultOptimWrapperConstructor):
        def __call__(self, model: nn.Module) -> OptimWrapper:
            params: list[Any] = []
            self.paramwise_cfg = {"custom_keys": {"body": {"lr_mult": 0.1}}}
            self.add_params(params, model)
            return OptimWrapper(torch.optim.SGD(params, lr=1.0))

    wrapper = build_optim_wrapper(Net(), {"optimizer": SGD, "constructor": Own})

    assert [group["lr"] for group in wrapper.param_groups] == [0.1, 0.1, 1.0, 1.0]
    assert sorted(wrapper._names.values()) == ["body.bias", "body.weight", "head.bias", "head.weight"]


def test_constructor_must_return_an_optimizer_or_a_wrapper() -> None:
    class Own(DefaultOptimWrapperConstructor):
        def __call__(self, model: nn.Module) -> Any:
            return None

    with pytest.raises(BuildError, match="must return an optimizer or an optimizer wrapper"):
        build_optim_wrapper(Net(), {"optimizer": SGD, "constructor": Own})


@pytest.mark.parametrize("base", GENERATIONS)
def test_a_subclass_that_adds_parameters_may_have_keys_of_its_own(base: Any, caplog: pytest.LogCaptureFixture) -> None:
    def add_params(self: Any, params: list[Any], module: nn.Module, **options: Any) -> None:
        for name, each in module.named_parameters():
            params.append({"params": [each], "lr": self.paramwise_cfg["num_layers"] / (1 + ("head" in name))})

    found = built(base, None, {"num_layers": 4, "decay_type": "layer_wise"}, add_params=add_params)
    assert (found["body.weight"][0], found["head.weight"][0]) == (4.0, 2.0)
    assert caplog.messages == []
    built(base, None, {"num_layers": 4})
    assert caplog.messages == ['paramwise_cfg has the unknown key "num_layers"']
