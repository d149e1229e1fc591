from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import save_checkpoint
from tests.footplate.checkpoint import packing, sharded_examples

State = Callable[[int], dict[str, Any]]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        is_alike = isinstance(right, torch.Tensor) and left.dtype == right.dtype and left.shape == right.shape
        return is_alike and torch.equal(*(side.contiguous().reshape(-1).view(torch.uint8) for side in (left, right)))
    if isinstance(left, dict):
        return type(left) is type(right) and left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(_same, left, right))
    return type(left) is type(right) and (left == right or left != left)


@pytest.fixture
def same() -> Callable[[Any, Any], bool]:
    """Checks whether two states are equal in types, bits and order of keys."""
    return _same


@pytest.fixture
def make_state() -> State:
    """Returns a function that builds the state of a small run at an iteration."""

    def make(iteration: int, width: int = 8) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(iteration)
        weight = torch.randn(width, 4, generator=generator)
        return {
            "meta": {"iter": iteration, "epoch": 1, "seed": 7},
            "state_dict": OrderedDict(weight=weight, bias=torch.randn(width, generator=generator)),
            "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        }

    return make


@pytest.fixture
def saved(tmp_path: Path, make_state: State) -> str:
    """A saved checkpoint in a separate folder."""
    path = str(tmp_path / "run" / "iter_1.pth")
    save_checkpoint(make_state(1), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sharded checkpoint of three ranks."""
    return sharded_examples.save(tmp_path / "iter_8.sharded")


@pytest.fixture
def pack() -> Callable[..., bytes]:
    """Returns the function that builds an archive, optionally with false directory entries."""
    return packing.pack
