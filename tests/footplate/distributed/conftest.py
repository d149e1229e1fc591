import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from footplate.distributed import initialize
from tests.support import free_port

OnRanks = Callable[..., list[Any]]


def for_each(function: Callable[..., Any], cases: list[tuple[Any, ...]]) -> list[Any]:
    """Calls a function for several cases, so that one start of the ranks serves all of them."""
    return [function(*case) for case in cases]


def _run(rank: int, world: int, port: int, folder: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    settings = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in settings.items()})
    initialize("pytorch", {"backend": "gloo", "timeout": 60})
    dist.barrier()  # no rank may exit while another is still connecting
    (folder / f"rank_{rank}").write_bytes(pickle.dumps(function(*args)))
    dist.destroy_process_group()


@pytest.fixture
def on_ranks(tmp_path: Path) -> OnRanks:
    """Calls a function on several ranks in processes of their own and returns their results."""

    def call(world: int, function: Callable[..., Any], *args: Any) -> list[Any]:
        port = free_port()
        context = multiprocessing.get_context("fork")
        ranks = [context.Process(target=_run, args=(r, world, port, tmp_path, function, args)) for r in range(world)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
        assert [process.exitcode for process in ranks] == [0] * world
        return [pickle.loads((tmp_path / f"rank_{rank}").read_bytes()) for rank in range(world)]

    return call
