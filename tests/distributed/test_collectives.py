from collections.abc import Callable
from typing import Any

import pytest

from footplate.distributed import (
    barrier,
    broadcast_object,
    collect_results,
    gather_objects,
    get_rank,
    get_world_size,
    is_distributed,
    is_main_process,
    master_only,
)


def everything() -> dict[str, Any]:
    barrier()
    return {
        "distributed": is_distributed(),
        "rank": get_rank(),
        "world": get_world_size(),
        "main": is_main_process(),
        "broadcast": broadcast_object({"from": get_rank()}),
        "broadcast from the last": broadcast_object(get_rank() * 10, source=get_world_size() - 1),
        "gathered": gather_objects(["a", "b", "c"][get_rank()]),
        "on the first": master_only(lambda value: value + 1)(41),
    }


def test_one_process_is_alone() -> None:
    assert everything() == {
        "distributed": False,
        "rank": 0,
        "world": 1,
        "main": True,
        "broadcast": {"from": 0},
        "broadcast from the last": 0,
        "gathered": ["a"],
        "on the first": 42,
    }


def test_three_processes_tell_each_other(on_ranks: Callable[..., list[Any]]) -> None:
    for rank, found in enumerate(on_ranks(3, everything)):
        assert found == {
            "distributed": True,
            "rank": rank,
            "world": 3,
            "main": rank == 0,
            "broadcast": {"from": 0},
            "broadcast from the last": 20,
            "gathered": ["a", "b", "c"],
            "on the first": 42 if rank == 0 else None,
        }


def test_a_function_of_the_first_process_keeps_its_name() -> None:
    def save(path: str) -> str:
        """Saves."""
        return path

    assert (master_only(save).__name__, master_only(save).__doc__) == ("save", "Saves.")


def collect(sizes: list[int]) -> list[list[int]]:
    rank, world = get_rank(), get_world_size()
    found = []
    for size in sizes:
        padded = -(-size // world) * world
        found.append(collect_results([index % size for index in range(rank, padded, world)], size))
        found.append(collect_results(list(range(rank, size, world)), size))
    return found


@pytest.mark.parametrize("world", [1, 2, 3])
def test_results_come_in_the_order_of_the_data_set(on_ranks: Callable[..., list[Any]], world: int) -> None:
    sizes = [1, 2, 5, 6, 7]
    expected = [list(range(size)) for size in sizes for _ in range(2)]
    assert on_ranks(world, collect, sizes) == [expected] * world
