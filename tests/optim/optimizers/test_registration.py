"""Registration of optimizers."""

import inspect

import pytest
import torch
from torch.optim import Optimizer

from footplate.optim.optimizers import LARS, register_extra_optimizers
from footplate.registry import OPTIMIZERS

TORCH_OPTIMIZERS = [
    name
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer
]


@pytest.mark.parametrize("name", TORCH_OPTIMIZERS)
def test_torch_optimizers_are_registered(name: str) -> None:
    assert OPTIMIZERS.get(name) is getattr(torch.optim, name)


def test_optimizers_of_pytorch_optimizer_are_registered() -> None:
    extra = pytest.importorskip("pytorch_optimizer", reason="the extra is not installed")
    assert register_extra_optimizers()
    names = [
        name
        for name, found in vars(extra).items()
        if inspect.isclass(found) and issubclass(found, Optimizer) and not inspect.isabstract(found)
    ]
    assert len(names) > 100
    assert [name for name in names if name not in OPTIMIZERS] == []


def test_existing_names_are_not_replaced() -> None:
    register_extra_optimizers()
    assert OPTIMIZERS.get("LARS") is LARS
    assert OPTIMIZERS.get("Adafactor") is torch.optim.Adafactor
