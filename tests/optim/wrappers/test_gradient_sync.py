"""Turning gradient synchronization off and on."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from footplate.optim.wrappers.gradient_sync import gradient_sync_switches


def test_plain_models_need_no_context() -> None:
    model = nn.Linear(1, 1, bias=False)
    with gradient_sync_switches(model)[0]() as entered:
        model(torch.ones(1, 1)).sum().backward()
    assert entered is None
    assert isinstance(gradient_sync_switches(model)[0](), nullcontext)
    assert gradient_sync_switches(model)[1] is None
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 1.0


def test_no_sync_of_data_parallel_models_is_used() -> None:
    context: Any = nullcontext("context")

    class Parallel(nn.Module):
        def no_sync(self) -> Any:
            return context

    assert gradient_sync_switches(Parallel())[0]() is context


def test_sharded_models_stay_off_until_turned_on() -> None:
    calls = []

    class Sharded(nn.Module):
        def set_requires_gradient_sync(self, on: bool) -> None:
            calls.append(on)

    turn_off, turn_on = gradient_sync_switches(Sharded())
    with turn_off():
        pass
    assert calls == [False]  # the backward pass comes after the context
    assert turn_on is not None
    turn_on()
    assert calls == [False, True]
