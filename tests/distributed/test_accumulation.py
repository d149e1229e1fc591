"""Saving and restoring gradients in the middle of accumulation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import fsdp

from footplate.distributed import get_rank, unwrap_model, wrap_model
from footplate.distributed.sharding import (
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
