"""Saving and restoring gradients in the middle of accumulation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import fsdp

from footplate.checkpoint.serializable import gather_full_state
from footplate.distributed import get_rank, get_world_size, unwrap_model, wrap_model
from footplate.distributed.sharding import (
    average_gradients,
    full_tensor,
    reduced_gradients,
    restore_gradients,
    unreduced_gradients,
)
from footplate.models import BaseModel
from footplate.optim import build_optim_wrapper
from tests.distributed.conftest import for_each

FULL = {"type": "FullyShard", "shard": {"names": ["first"]}}
MIXED = {**FULL, "mixed_precision": {"param_dtype": "bfloat16", "reduce_dtype": "float32"}}


class Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 2)
        self.unused = nn.Linear(1, 1)

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return {"loss": self.second(torch.tanh(self.first(inputs))).square().mean()}


def start_accumulation(cfg: dict[str, Any] | None, losses: range) -> tuple[Any, Any, list[Tensor]]:
    """Returns a model after some of three accumulation steps, its optimizer wrapper and its parameters."""
    model: Any = wrap_model(Net(), cfg, find_unused_parameters=True)
    assert isinstance(model, fsdp.FSDPModule) == (cfg is not None)
    optim = build_optim_wrapper(model, {"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 3})
    accumulate(model, optim, losses)
    return model, optim, [each for group in optim.param_groups for each in group["params"]]


def accumulate(model: Any, optim: Any, losses: range) -> None:
    for number in losses:
        model.train_step((torch.full((2, 3), 1.0 + number + 10 * get_rank()),), optim)


def weights(model: nn.Module) -> list[float]:
    return [
        value for each in unwrap_model(model).parameters() for value in full_tensor(each.detach()).flatten().tolist()
    ]


def save_and_restore(cfg: dict[str, Any] | None, as_file: bool) -> tuple[list[float], list[float], list[Any]]:
    """Returns the weights after uninterrupted accumulation and after saving and restoring in between."""
    model, optim, parameters = start_accumulation(cfg, range(2))
    saved: Any = unreduced_gradients(unwrap_model(model), parameters)
    shapes = [None if each is None else tuple(each.shape) for each in saved]
    assert reduced_gradients(parameters) == [None] * 6
    if as_file:
        saved = [None if each is None else full_tensor(each) for each in saved]
    else:
        saved = [None if each is None else each.clone() for each in saved]
    accumulate(model, optim, range(2, 3))
    other, again, own = start_accumulation(cfg, range(0))
    restore_gradients(unwrap_model(other), own, saved)
    again.initialize_count_status(other, 2, 6)
    accumulate(other, again, range(2, 3))
    return weights(model), weights(other), shapes


def test_each_rank_restores_its_own_gradients(on_ranks: Callable[..., list[Any]]) -> None:
    cases = [(cfg, as_file) for cfg in (None, FULL, MIXED) for as_file in (False, True)]
    for rank in on_ranks(2, for_each, save_and_restore, cases):
        for uninterrupted, again, shapes in rank:
            assert uninterrupted == again
            assert sorted(shape for shape in shapes if shape) == [(2, 2), (2, 2, 5), (2, 5), (2, 5, 3)]


def rows_of_two() -> list[Tensor]:
    """Returns the saved gradients of two ranks, each with its own constant."""
    return [torch.stack([torch.full_like(each, 1.0), torch.full_like(each, 4.0)]) for each in Net().parameters()]


def restore_rows_of_two(cfg: dict[str, Any] | None) -> list[float]:
    model, _, parameters = start_accumulation(cfg, range(0))
    by_name = dict(zip([name for name, _ in Net().named_parameters()], rows_of_two(), strict=True))
    names = {id(each): name for name, each in unwrap_model(model).named_parameters()}
    restore_gradients(unwrap_model(model), parameters, [by_name[names[id(each)]] for each in parameters])
    return sorted(
        {value for each in parameters if each.grad is not None for value in full_tensor(each.grad).flatten().tolist()}
    )


def test_other_number_of_ranks_restores_mean(on_ranks: Callable[..., list[Any]]) -> None:
    assert on_ranks(3, for_each, restore_rows_of_two, [(None,), (FULL,)]) == [[[2.5]] * 2] * 3


def test_single_process_adds_mean_of_saved_ranks() -> None:
    model = Net()
    model.first.bias.grad = torch.ones(5)
    restore_gradients(model, model.parameters(), [*rows_of_two()[:2], None, None, None, None])
    assert model.first.bias.grad.tolist() == [3.5] * 5
    assert model.first.weight.grad is not None
    assert model.second.weight.grad is None


def means(cfg: dict[str, Any] | None) -> list[list[float]]:
    model, _, parameters = start_accumulation(cfg, range(1))
    assert get_world_size() == 2
    found = average_gradients(unwrap_model(model), parameters)
    values: list[list[float]] = [full_tensor(each).flatten().tolist() for each in found if each is not None]
    assert gather_full_state(found) is not None
    return values


def test_average_gradients_over_all_ranks(on_ranks: Callable[..., list[Any]]) -> None:
    model = Net()
    for rank in (0, 1):
        (model(torch.full((2, 3), 1.0 + 10 * rank))["loss"] / 6).backward()
    expected = [value for each in model.parameters() if each.grad is not None for value in each.grad.flatten().tolist()]
    for rank in on_ranks(2, for_each, means, [(None,), (FULL,)]):
        for found in rank:
            assert [value for each in found for value in each] == pytest.approx(expected, rel=1e-5)
