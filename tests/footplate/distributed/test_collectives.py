from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from footplate.distributed import (
    broadcast_object,
    broadcast_tensors,
    check_same_parameters,
    collect_results,
    gather_objects,
    get_rank,
    get_world_size,
    is_distributed,
    is_main_process,
)
from footplate.errors import RankError
from tests.footplate.distributed.conftest import OnRanks, for_each


def everything() -> dict[str, Any]:
    return {
        "distributed": is_distributed(),
        "rank": get_rank(),
        "world": get_world_size(),
        "main": is_main_process(),
        "broadcast": broadcast_object({"from": get_rank()}),
        "gathered": gather_objects(["a", "b", "c"][get_rank()]),
    }


def test_collectives_on_one_process() -> None:
    assert everything() == {
        "distributed": False,
        "rank": 0,
        "world": 1,
        "main": True,
        "broadcast": {"from": 0},
        "gathered": ["a"],
    }


def test_collectives_on_three_ranks(on_ranks: OnRanks) -> None:
    for rank, found in enumerate(on_ranks(3, everything)):
        assert found == {
            "distributed": True,
            "rank": rank,
            "world": 3,
            "main": rank == 0,
            "broadcast": {"from": 0},
            "gathered": ["a", "b", "c"],
        }


def collect(sizes: list[int]) -> list[list[int] | None]:
    rank, world = get_rank(), get_world_size()
    found = []
    for size in sizes:
        padded = -(-size // world) * world
        found.append(collect_results([index % size for index in range(rank, padded, world)], size))
        found.append(collect_results(list(range(rank, size, world)), size))
    return found


@pytest.mark.parametrize("world", [1, 3])
def test_collect_results_in_dataset_order(on_ranks: OnRanks, world: int) -> None:
    sizes = [1, 2, 5, 6, 7, 13]
    expected = [list(range(size)) for size in sizes for _ in range(2)]
    assert on_ranks(world, collect, sizes) == [expected] + [[None] * len(expected)] * (world - 1)


def buffers_after_sharing() -> list[Any]:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
    for buffer in model.buffers():
        buffer.fill_(get_rank() + 1)
    broadcast_tensors(model.buffers())
    return [buffer.tolist() for buffer in model.buffers()]


def test_broadcast_buffers(on_ranks: OnRanks) -> None:
    assert on_ranks(2, buffers_after_sharing) == [[[1.0, 1.0], [1.0, 1.0], 1]] * 2
    assert buffers_after_sharing() == [[1.0, 1.0], [1.0, 1.0], 1]


def _model(classes: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, classes))


def _named(**changes: Any) -> nn.Module:
    model = _model()
    for name, value in changes.items():
        model.register_parameter(name, value)
    return model


def error_of_other_parameters(kind: str) -> str:
    odd = get_rank() == 2
    models: dict[str, Callable[[], nn.Module]] = {
        "shape": lambda: _model(5 if odd else 2),
        "frozen": lambda: _model().requires_grad_(not odd),
        "missing": lambda: _named() if odd else _named(scale=nn.Parameter(torch.ones(()))),
        "same": _model,
    }
    try:
        check_same_parameters(models[kind]())
    except RankError as error:
        return str(error)
    return ""


def test_different_parameters_raise_on_every_rank(on_ranks: OnRanks) -> None:
    notes = {
        "shape": "1.weight: 5x4 float32 on rank 2, 1.weight: 2x4 float32 on rank 0",
        "frozen": "0.weight: 4x3 float32, frozen on rank 2, 0.weight: 4x3 float32 on rank 0",
        "missing": "0.weight: 4x3 float32 on rank 2, scale: scalar float32 on rank 0",
    }
    expected = [
        ["the parameters on rank 2 differ from the parameters on rank 0", f"  {note}"] for note in notes.values()
    ]
    for messages in on_ranks(3, for_each, error_of_other_parameters, [*((kind,) for kind in notes), ("same",)]):
        assert [message.split("\n")[:2] for message in messages] == [*expected, [""]]
