"""Validation on several ranks gives the result of one process for any number of samples."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner
from footplate.errors import ArgumentError
from tests.docs.pages import DOCS, blocks_of
from tests.footplate.distributed.conftest import OnRanks
from tests.support import ToyModel, loader, settings


class Precise(ToyModel):
    """A model in double precision with two losses."""

    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight, generator=torch.Generator().manual_seed(3))
                nn.init.zeros_(layer.bias)
        self.double()

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        found = super().forward(inputs.double(), labels, mode)
        if mode == "loss":
            found["loss_spread"] = self.layers(inputs.double()).square().sum(1).mean()
        return found


Case = tuple[int, int]
SHARDED = {"type": "FullyShard"}


def validated(
    folder: Path, cases: list[Case], wrapper: dict[str, Any] | None = None, round_up: bool = True
) -> list[dict[str, float]]:
    """Returns the validation metrics for each number of samples and batch size."""
    found = []
    for size, batch_size in cases:
        sampler = {"type": "DefaultSampler", "shuffle": False, "round_up": round_up}
        section = loader(size, sampler=sampler, batch_size=batch_size)
        cfg = settings(folder, model=Precise(), val_dataloader=section, val_cfg={"loss": True})
        cfg |= {"launcher": "pytorch" if dist.is_initialized() else "none", "model_wrapper_cfg": wrapper}
        for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
            cfg[key] = None
        found.append(Runner(**cfg).val())
    return found


def check(folder: Path, on_ranks: OnRanks, world: int, cases: list[Case], *how: Any) -> None:
    alone = validated(folder / "alone", cases)
    for found in on_ranks(world, validated, folder / "ranks", cases, *how):
        for case, mine, expected in zip(cases, found, alone, strict=True):
            assert mine == pytest.approx(expected, rel=1e-12, abs=1e-14), case
            assert set(mine) == {"loss", "loss_spread", "accuracy"}


@pytest.mark.parametrize(("world", "wrapper", "round_up"), [(3, SHARDED, True), (4, None, False)])
def test_validation_losses_equal_single_process(
    tmp_path: Path, on_ranks: OnRanks, world: int, wrapper: dict[str, Any] | None, round_up: bool
) -> None:
    check(tmp_path, on_ranks, world, [(1, 3), (5, 1), (7, 3), (8, 3), (9, 4), (13, 4)], wrapper, round_up)


def gathered(folder: Path) -> list[Any]:
    data = DataLoader(TensorDataset(torch.arange(7.0)[:, None]), batch_size=2)
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.zeros_(model.bias)

    def step(model: nn.Module, batch: Any) -> Any:
        value = model(batch[0])
        return {"value": value[:, 0], "name": [f"{number:.0f}" for number in value.flatten()]}

    predictions = Runner(model, folder, validation_step=step, training_step=step).predict(data, gather=True)
    blocks = blocks_of((DOCS / "several-processes.md").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    exec(next(block.text for block in blocks if "gather=True" in block.text), names)
    classifier = Runner(model, folder, validation_step=lambda _, batch: nn.functional.one_hot(batch[0][:, 0].long(), 7))
    assert names["predict_classes"](classifier, data) == [*range(7)]
    return predictions


def test_predictions_are_gathered_in_the_order_of_the_dataset(tmp_path: Path, on_ranks: OnRanks) -> None:
    expected = [{"value": torch.tensor(float(number)), "name": str(number)} for number in range(7)]
    assert gathered(tmp_path / "1") == expected
    assert on_ranks(3, gathered, tmp_path / "3") == [expected] * 3


def test_gathering_names_what_it_cannot_use(tmp_path: Path) -> None:
    data = TensorDataset(torch.arange(4.0)[:, None])
    runner = Runner(nn.Linear(1, 1), tmp_path, validation_step=lambda model, batch: {"loss": model(batch[0]).mean()})
    with pytest.raises(ArgumentError, match="one entry per sample in 'loss' in the predictions"):
        runner.predict(DataLoader(data, batch_size=2), gather=True)
    with pytest.raises(ArgumentError, match="the loader must not shuffle"):
        runner.predict(DataLoader(data, batch_size=2, shuffle=True), gather=True)
