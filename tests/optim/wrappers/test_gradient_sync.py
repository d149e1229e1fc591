"""Holding back the exchange of gradients."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from footplate.optim.wrappers.gradient_sync import syncing_of


def test_models_without_others_have_nothing_to_hold_back() -> None:
    model = nn.Linear(1, 1, bias=False)
    with syncing_of(model)[0]() as held:
        model(torch.ones(1, 1)).sum().backward()
    assert held is None
    assert isinstance(syncing_of(model)[0](), nullcontext)
    assert syncing_of(model)[1] is None
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 1.0


def test_the_context_of_a_data_parallel_model() -> None:
    held: Any = nullcontext("held")

    class Parallel(nn.Module):
        def no_sync(self) -> Any:
            return held

    assert syncing_of(Parallel())[0]() is held


def test_sharded_models_are_told_and_told_back() -> None:
    told = []

    class Sharded(nn.Module):
        def set_requires_gradient_sync(self, on: bool) -> None:
            told.append(on)

    begin, end = syncing_of(Sharded())
    with begin():
        pass
    assert told == [False]  # the backward pass is still to come
    assert end is not None
    end()
    assert told == [False, True]
