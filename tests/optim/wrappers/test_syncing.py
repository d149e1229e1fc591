"""Holding back the exchange of gradients."""

from contextlib import nullcontext
from typing import Any

from torch import nn

from footplate.optim.wrappers.syncing import without_sync


def test_models_without_others_have_nothing_to_hold_back() -> None:
    with without_sync(nn.Linear(1, 1)):
        pass


def test_the_context_of_a_data_parallel_model() -> None:
    held: Any = nullcontext("held")

    class Parallel(nn.Module):
        def no_sync(self) -> Any:
            return held

    assert without_sync(Parallel()) is held


def test_sharded_models_are_told_and_told_back() -> None:
    told = []

    class Sharded(nn.Module):
        def set_requires_gradient_sync(self, on: bool) -> None:
            told.append(on)

    with without_sync(Sharded()):
        assert told == [False]
    assert told == [False, True]
