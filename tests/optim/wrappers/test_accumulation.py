"""Gradient accumulation in runs whose iterations have several losses."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate import Runner

BATCHES = list(torch.randn(10, 4, 2, generator=torch.Generator().manual_seed(0)).unbind())


def net() -> nn.Linear:
    layer = nn.Linear(2, 1)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def two_losses(model: Any, batch: Any, optimizer: Any) -> dict[str, Any]:
    for part in (batch[:2], batch[2:]):
        loss = model(part).square().mean()
        optimizer.update_params(loss)
    return {"loss": loss.detach()}


def trained(work_dir: Path, **arguments: Any) -> nn.Linear:
    layer, step = net(), cast("Any", two_losses)
    Runner(
        model=layer,
        work_dir=str(work_dir),
        train_dataloader=BATCHES,
        training_step=step,
        max_iters=10,
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 3},
        default_hooks={"checkpoint": {"by_epoch": False, "interval": 1}},
        **arguments,
    ).train()
    return layer


def test_last_round_of_a_run_with_two_losses_per_iteration(tmp_path: Path) -> None:
    layer = net()
    optimizer = SGD(layer.parameters(), lr=0.1)
    losses = [part for batch in BATCHES for part in (batch[:2], batch[2:])]
    for first in range(0, len(losses), 3):
        parts = losses[first : first + 3]
        for part in parts:
            (layer(part).square().mean() / len(parts)).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.testing.assert_close(trained(tmp_path).weight, layer.weight)


@pytest.mark.parametrize("iteration", [4, 9])  # in the middle of a round, and in the last round
def test_resumed_run_with_two_losses_per_iteration_is_identical(tmp_path: Path, iteration: int) -> None:
    straight = trained(tmp_path / "a")
    resumed = trained(tmp_path / "b", load_from=str(tmp_path / f"a/iter_{iteration}.pth"), resume=True)
    assert torch.equal(resumed.weight, straight.weight)
