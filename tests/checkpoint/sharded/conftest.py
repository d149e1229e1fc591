from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint.sharded import split
from footplate.checkpoint.sharded.splitting import cut_evenly
from footplate.checkpoint.sharded.writing import save_all_parts


def example() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    weights = OrderedDict(
        weight=torch.randn(7, 3, generator=generator, dtype=torch.float64),
        bias=torch.randn(5, generator=generator).bfloat16(),
        count=torch.tensor(3),
        empty=torch.zeros(0, 4),
    )
    weights["tied"] = weights["weight"]
    weights._metadata = {"": {"version": 2}}  # type: ignore[attr-defined]
    state = {0: {"step": torch.tensor(8.0), "exp_avg": torch.randn(7, 3, generator=generator)}}
    return {
        "meta": {"iter": 8, "epoch": 1},
        "state_dict": weights,
        "optimizer": {"state": state, "param_groups": [{"params": [0], "betas": (0.9, 0.99)}]},
        "run": {"random": [torch.arange(9, dtype=torch.uint8)]},
    }


def save(folder: Path, state: Any = None, count: int = 3) -> Path:
    """Returns a function that saves a sharded checkpoint as several processes would."""
    several = [split(example() if state is None else state, cut_evenly(number, count)) for number in range(count)]
    save_all_parts(several[0][0], [parts for _, parts in several], str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "iter_8.sharded")
