"""Optimizers by name."""

import inspect

import pytest
import torch
from torch.optim import Optimizer

from footplate.optim.optimizers import LARS, register_extra_optimizers
from footplate.registry import OPTIMIZERS

OF_TORCH = [
    name
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer
]


@pytest.mark.parametrize("name", OF_TORCH)
def test_every_optimizer_of_torch(name: str) -> None:
    assert OPTIMIZERS.get(name) is getattr(torch.optim, name)


def test_every_optimizer_of_the_extra() -> None:
    extra = pytest.importorskip("pytorch_optimizer", reason="the extra is not installed")
    assert register_extra_optimizers()
    names = [
        name
        for name, found in vars(extra).items()
        if inspect.isclass(found) and issubclass(found, Optimizer) and not inspect.isabstract(found)
    ]
    assert len(names) > 100
    assert [name for name in names if name not in OPTIMIZERS] == []


def test_a_name_that_is_taken_stays() -> None:
    register_extra_optimizers()
    assert OPTIMIZERS.get("LARS") is LARS
    assert OPTIMIZERS.get("Adafactor") is torch.optim.Adafactor
