"""Gradient accumulation in runs whose iterations have several losses."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.optim import SGD

from footplate import Runner
from footplate.optim import OptimWrapper
from footplate.weighted import Weighted

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


def trained(work_dir: Path, count: int = 3, **arguments: Any) -> nn.Linear:
    layer, step = net(), cast("Any", two_losses)
    Runner(
        model=layer,
        work_dir=str(work_dir),
        train_dataloader=BATCHES,
        training_step=step,
        max_iters=10,
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": count},
        default_hooks={"checkpoint": {"by_epoch": False, "interval": 1, "max_keep_ckpts": -1}},
        **arguments,
    ).train()
    return layer


def test_losses_beyond_the_expected_number_are_scaled_as_before() -> None:
    layer = net()
    wrapper = OptimWrapper(SGD(layer.parameters(), lr=0.1), accumulative_counts=4)
    wrapper.initialize_count_status(layer, 0, 6)
    scales = []
    for _ in range(8):
        scales.append(float(wrapper.scale_loss(torch.ones(()))))
        wrapper.update_params(layer(BATCHES[0]).mean())
    assert scales == [0.25] * 4 + [0.5] * 2 + [0.25] * 2


@pytest.mark.parametrize("iteration", [4, 9])  # in the middle of a round, and in the last round
def test_resumed_run_with_two_losses_per_iteration_is_identical(tmp_path: Path, iteration: int) -> None:
    straight = trained(tmp_path / "a")
    resumed = trained(tmp_path / "b", load_from=str(tmp_path / f"a/iter_{iteration}.pth"), resume=True)
    assert torch.equal(resumed.weight, straight.weight)


@pytest.mark.parametrize("stop", [7, 12])
def test_the_last_step_does_not_depend_on_where_a_run_resumes(tmp_path: Path, stop: int) -> None:
    """The second optimizer has a loss in each third iteration, so the estimated number of its losses is too high."""

    def step(model: Any, batch: Any, optimizers: Any, step: Any) -> None:
        optimizers["first"].update_params(model[0](batch).square().mean())
        if step.iter % 3 == 0:
            optimizers["second"].update_params(model[1](batch).square().mean())

    def train(folder: Path, **arguments: Any) -> list[torch.Tensor]:
        model = nn.Sequential(net(), net())
        optimizers = {
            name: {"optimizer": SGD(part.parameters(), lr=0.1), "accumulative_counts": 2}
            for name, part in zip(("first", "second"), model, strict=True)
        }
        batches = [*BATCHES, BATCHES[0], BATCHES[1], BATCHES[2]]
        checkpoint = {"by_epoch": False, "interval": stop, "max_keep_ckpts": -1}
        Runner(
            model,
            folder,
            batches,
            training_step=step,
            max_iters=13,
            optim_wrapper=optimizers,
            default_hooks={"checkpoint": checkpoint},
            preflight=False,
            **arguments,
        ).train()
        return [weight.detach() for weight in model.parameters()]

    expected = train(tmp_path / "whole")
    resumed = train(tmp_path / "resumed", load_from=str(tmp_path / "whole" / f"iter_{stop}.pth"), resume=True)
    assert all(map(torch.equal, resumed, expected))


def test_recorded_losses_are_restored() -> None:
    layer = net()
    wrapper = OptimWrapper(SGD(layer.parameters(), 0.1), accumulative_counts=3)
    wrapper.backward(Weighted(layer(BATCHES[0]).mean(), 2.0))
    restore = wrapper.record_losses()
    wrapper.backward(Weighted(layer(BATCHES[1]).mean(), 3.0))
    assert wrapper.state_dict()["loss_counts"] == (2, None, 0)
    assert wrapper.state_dict()["accumulated_weight"] == [6.0, 5.0]
    wrapper.zero_grad()
    restore()
    wrapper.backward(Weighted(layer(BATCHES[1]).mean(), 3.0))
    state = wrapper.state_dict()
    assert (state["loss_counts"], state["accumulated_weight"]) == ((2, None, 0), [6.0, 5.0])
    assert "called_zero_grad" not in state
