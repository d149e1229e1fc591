"""A sharded checkpoint for tests."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from footplate.checkpoint import split_state
from footplate.checkpoint.serializable import cut_evenly
from footplate.checkpoint.sharded import save_shards


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
    """Saves a sharded checkpoint and returns its folder."""
    shard_state(example() if state is None else state, str(folder), count)
    return folder


def shard_state(state: Any, folder: str, count: int) -> None:
    """Saves a state with a number of files."""
    parts = [split_state(state, cut_evenly(number, count)) for number in range(count)]
    save_shards(parts[0][0], [each for _, shards in parts for each in shards.items()], folder, files=count)
