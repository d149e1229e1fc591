"""Loading optimizer states with other parameter groups."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import AdamW

from footplate.errors import CheckpointError
from footplate.optim import OptimWrapper, build_optim_wrapper

SECTION = {"optimizer": {"type": "AdamW", "lr": 0.1}, "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_lr_mult": 2.0}}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Linear(3, 1))


def train(model: nn.Module, wrapper: OptimWrapper, steps: int = 2) -> None:
    for step in range(steps):
        wrapper.update_params(model(torch.ones(2, 2) + step).pow(2).sum())


def test_states_and_accumulated_gradients_are_matched_by_name_after_regrouping() -> None:
    model = net()
    wrapper = build_optim_wrapper(model, {**SECTION, "accumulative_counts": 3})
    train(model, wrapper, 4)
    expected = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    assert len(expected) == 6
    saved = copy.deepcopy(wrapper.state_dict())
    for section in (SECTION, {"optimizer": SECTION["optimizer"]}):
        model.zero_grad()
        loaded = build_optim_wrapper(model, {**section, "accumulative_counts": 3})
        loaded.load_state_dict(saved)
        for name, each in model.named_parameters():
            assert each.grad is not None
            assert torch.equal(each.grad, expected[name])
            moments = [found.optimizer.state[each]["exp_avg"] for found in (loaded, wrapper)]
            assert torch.equal(*moments)


def test_state_without_frozen_parameters_is_loaded() -> None:
    model = net()
    model[0].requires_grad_(False)
    groups = [{"params": [each]} for each in model.parameters() if each.requires_grad]
    other = AdamW(groups, lr=0.1)
    train(model, OptimWrapper(other))
    wrapper = build_optim_wrapper(model, SECTION)
    wrapper.load_state_dict(other.state_dict())
    frozen, trained_one = list(model.parameters())[0], list(model.parameters())[4]
    assert torch.equal(wrapper.optimizer.state[trained_one]["exp_avg"], other.state[trained_one]["exp_avg"])
    assert frozen not in wrapper.optimizer.state


def test_state_is_loaded_by_a_plain_torch_optimizer() -> None:
    model = net()
    wrapper = build_optim_wrapper(model, {"optimizer": SECTION["optimizer"]})
    train(model, wrapper)
    state = wrapper.state_dict()
    assert set(state) == {"state", "param_groups", "optimizer_type", "called_zero_grad"}
    plain = AdamW(model.parameters())
    plain.load_state_dict(state)
    assert plain.param_groups[0]["lr"] == 0.1


def test_missing_parameters_are_named() -> None:
    model = net()
    state = build_optim_wrapper(model, SECTION).state_dict()
    state["param_groups"][0]["param_names"][0] = "renamed"
    with pytest.raises(CheckpointError, match=r"is missing 1 parameter, such as '0\.weight'") as caught:
        build_optim_wrapper(model, SECTION).load_state_dict(state)
    assert caught.value.notes[0] == "Freeze the parameters that were frozen in the saved run."


@pytest.mark.parametrize(("kind", "settings"), [("AdamW", {"amsgrad": True}), ("Adafactor", {})])
def test_state_of_each_torch_optimizer_is_loaded(kind: str, settings: dict[str, Any]) -> None:
    model = net()
    wrapper = OptimWrapper(getattr(torch.optim, kind)(model.parameters(), lr=0.1, **settings))
    wrapper.name_parameters(model)
    train(model, wrapper)
    state = copy.deepcopy(wrapper.state_dict())
    wrapper.load_state_dict(state)
    assert wrapper.state_dict()["state"].keys() == state["state"].keys()


@pytest.fixture(name="one_rank")
def _one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_state_of_sharded_parameters_is_loaded() -> None:
    model = net()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    wrapper = build_optim_wrapper(model, {"optimizer": {"type": "AdamW", "lr": 0.1}})
    train(model, wrapper)
    saved = copy.deepcopy(wrapper.state_dict())
    train(model, wrapper)
    wrapper.load_state_dict(saved)
    loaded = wrapper.state_dict()["state"]
    assert len(loaded) == 6
    for index, values in saved["state"].items():
        for key, value in values.items():
            pair = [
                each.full_tensor() if hasattr(each, "full_tensor") else each for each in (value, loaded[index][key])
            ]
            assert torch.equal(*pair)
