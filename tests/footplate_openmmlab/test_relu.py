"""Code from before PyTorch 1.9 changes the output of a ReLU in place."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from footplate.engine import EpochBasedTrainLoop, Hook, Runner
from footplate.models import BaseModel
from tests.support import settings


class OldPyramid(BaseModel):
    """Adds to the output of a ReLU, as the decoder of UPerNet did, or applies a second ReLU in place, as an RPN did."""

    def __init__(self, adds: bool, repaired: bool) -> None:
        super().__init__()
        self.repaired, self.adds, self.calls = repaired, adds, 0
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=not adds), nn.Dropout(0.1))
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
        self.calls += 1
        x = self.body[:3](inputs)
        if self.repaired:
            x = x + 0.5 if self.adds else F.relu(x)
        elif self.adds:
            x += 0.5
        else:
            F.relu(x, inplace=True)
        x = self.head(self.body[3](x))
        return {"loss": x.square().mean()} if mode == "loss" else list(zip(x.argmax(1), labels, strict=True))


def trained(folder: Path, adds: bool, repaired: bool) -> BaseModel:
    torch.manual_seed(0)
    model = OldPyramid(adds, repaired)
    Runner(**{**settings(folder), "model": model}).train()
    return model


@pytest.mark.parametrize("adds", [True, False], ids=["addition", "second ReLU"])
def test_old_code_trains_the_weights_that_mended_code_trains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, adds: bool
) -> None:
    with caplog.at_level(logging.WARNING, "footplate"):
        model = trained(tmp_path / "old", adds, False)
    expected = trained(tmp_path / "mended", adds, True)
    assert model.calls == expected.calls  # the failed step does not count
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert sum("output of a ReLU" in message for message in caplog.messages) == 1


def test_plain_module_with_old_code_trains(tmp_path: Path) -> None:
    class OldBlock(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, inputs: Any) -> Any:
            x = F.relu(self.layer(inputs))
            x += 0.5
            return x

    model = OldBlock()
    batches = [(torch.ones(2, 4), torch.tensor([0, 1]))] * 2
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = Runner(model, tmp_path, batches, max_epochs=1, loss=F.cross_entropy, optim_wrapper=optimizer)
    assert runner.train()[-1]["iter"] == 2


@pytest.mark.parametrize("repaired", [False, True])
def test_hook_can_wrap_the_training_step(tmp_path: Path, repaired: bool) -> None:
    calls: list[int] = []

    class Wrapping(Hook):
        def before_train(self, runner: Any) -> None:
            step = runner.model.train_step

            def wrapped(*args: Any, **kwargs: Any) -> Any:
                calls.append(runner.iter)
                return step(*args, **kwargs)

            runner.model.train_step = wrapped

    model = OldPyramid(adds=True, repaired=repaired)
    Runner(**{**settings(tmp_path, custom_hooks=[Wrapping()]), "model": model}).train()
    assert calls == list(range(12))


def test_loop_with_an_own_iteration_trains_old_code(tmp_path: Path) -> None:
    class OwnIteration(EpochBasedTrainLoop):
        def run_iter(self, idx: int, data_batch: Any) -> None:
            self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
            self._iter += 1

    cfg = settings(tmp_path, train_cfg={"type": OwnIteration, "max_epochs": 1}, default_hooks={"logger": None})
    runner = Runner(**{**cfg, "model": OldPyramid(adds=True, repaired=False)})
    runner.train()
    assert runner.iter == 4
