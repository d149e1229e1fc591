"""Optimizer wrappers with sharded parameters."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import spawn

from footplate.optim import build_optim_wrapper
from tests.support import free_port

pytestmark = pytest.mark.slow

WORLD = 2


def _section(kind: str, counts: int) -> dict[str, Any]:
    return {
        "optimizer": {"type": kind, "lr": 0.05, "weight_decay": 0.01},
        "paramwise_cfg": {"bias_decay_mult": 0.0},
        "clip_grad": {"max_norm": 0.5},
        "accumulative_counts": counts,
        "on_nonfinite": "skip",
    }


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def _shard(model: nn.Sequential) -> nn.Module:
    for layer in (model[0], model[2], model[4]):
        fully_shard(layer)
    fully_shard(model)
    return model


def _compare(rank: int, kind: str, counts: int) -> None:
    single, sharded = _net(), _shard(_net())
    single_wrapper = build_optim_wrapper(single, _section(kind, counts))
    sharded_wrapper = build_optim_wrapper(sharded, _section(kind, counts))
    generator = torch.Generator().manual_seed(1)
    for wrapper in (single_wrapper, sharded_wrapper):
        wrapper.initialize_count_status(sharded, 0, 7)
    for number in range(7):
        batch = torch.randn(8, 6, generator=generator, dtype=torch.float64)
        # One sample on rank 0 makes the gradients non-finite.
        batch[0] *= float("inf") if number == 2 and counts == 1 else 1
        single_wrapper.update_params(single(batch).pow(2).mean())
        with sharded_wrapper.optim_context(sharded):
            loss = sharded(batch.chunk(WORLD)[rank]).pow(2).mean()
        sharded_wrapper.update_params(loss)
    for shard, expected in zip(sharded.parameters(), single.parameters(), strict=True):
        # torch's Muon orthogonalizes its updates in bfloat16.
        rtol, atol = (1e-2, 2e-2) if kind == "Muon" else (1e-12, 1e-15)
        full = shard.full_tensor()  # type: ignore[attr-defined]
        torch.testing.assert_close(full, expected.detach(), rtol=rtol, atol=atol)


def _work(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    for kind, counts in (("AdamW", 1), ("SGD", 3), ("LARS", 3), ("Muon", 1)):
        _compare(rank, kind, counts)
    Path(folder, f"rank{rank}").touch()
    dist.barrier()
    # Skips the shutdown of the interpreter, which running threads of the process group sometimes abort.
    os._exit(0)


def test_two_ranks_step_like_one_process(tmp_path: Path) -> None:
    port = free_port()
    spawn(_work, args=(port, str(tmp_path)), nprocs=WORLD)  # type: ignore[no-untyped-call]
    assert len(list(tmp_path.iterdir())) == WORLD
