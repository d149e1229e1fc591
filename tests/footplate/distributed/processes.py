"""Calls functions in several processes of a process group."""

import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from footplate.distributed import initialize
from tests.support import free_port


def on_processes(world: int, function: Callable[..., Any], *args: Any, timeout: float = 60) -> list[Any]:
    """Calls a function on several ranks in processes of their own and returns their results.

    Raises:
        RuntimeError: A process has failed, or has not ended in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        context = multiprocessing.get_context("fork")
        ranks = [context.Process(target=_run, args=(r, world, port, folder, function, args)) for r in range(world)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(timeout)
            if process.is_alive():
                process.kill()
                process.join()
        if any(process.exitcode for process in ranks):
            raise RuntimeError(f"exit codes {[process.exitcode for process in ranks]}")
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(world)]


def _run(rank: int, world: int, port: int, folder: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    settings = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in settings.items()})
    initialize("pytorch", {"backend": "gloo", "timeout": 60})
    dist.barrier()  # no rank may exit while another is still connecting
    Path(folder, str(rank)).write_bytes(pickle.dumps(function(*args)))
    dist.destroy_process_group()
