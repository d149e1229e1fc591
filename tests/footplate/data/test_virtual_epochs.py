"""Runs with `steps_per_epoch`, whose epochs are parts of a stream."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from footplate import Runner
from footplate.errors import ArgumentError

NUMBERS = [torch.full((2,), float(number)) for number in range(10)]


class Stream(IterableDataset[Tensor]):
    """Ten numbers in each pass, without a length."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(NUMBERS)


def unsized() -> Any:
    return DataLoader(Stream(), batch_size=None)


def sized() -> Any:
    return DataLoader(TensorDataset(torch.stack(NUMBERS)[:, 0]), batch_size=1, shuffle=True)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[float] = []

    def forward(self, batch: Tensor) -> Tensor:
        if self.training:
            self.seen.append(batch.flatten()[0].item())
        return (self.weight - batch.mean()).square().sum()


def run(folder: Path, loader: Any, steps: int = 4, **changes: Any) -> tuple[Runner, list[float]]:
    model = Model()
    hooks = {"checkpoint": {"interval": 1, "by_epoch": False, "max_keep_ckpts": -1}}
    settings = {"max_epochs": 3, "train_cfg": {"steps_per_epoch": steps}, "default_hooks": hooks, **changes}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = Runner(model, folder, loader, [NUMBERS[0]], optim_wrapper=optimizer, randomness={"seed": 0}, **settings)
    runner.train()
    return runner, model.seen


@pytest.mark.parametrize("make", [unsized, sized])
def test_epochs_continue_the_stream_and_resume_anywhere(tmp_path: Path, make: Any) -> None:
    runner, seen = run(tmp_path / "a", make())
    assert [row["epoch"] for row in runner.history] == [1, 2, 3]
    assert [row["iter"] for row in runner.history] == [4, 8, 12]
    assert sorted(seen[:10]) == list(range(10))
    if make is unsized:
        assert seen == [*range(10), 0, 1]
    for iteration in (3, 4, 11):
        place = str(tmp_path / "a" / f"iter_{iteration}.pth")
        resumed, rest = run(tmp_path / str(iteration), make(), load_from=place, resume=True)
        assert rest[-(12 - iteration) :] == seen[iteration:]
        assert resumed.unwrapped_model.weight.equal(runner.unwrapped_model.weight)


def test_error_for_a_stream_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="steps_per_epoch"):
        run(tmp_path, unsized(), train_cfg={})


def test_resume_with_another_number_of_steps_reads_on(tmp_path: Path) -> None:
    _, whole = run(tmp_path / "a", sized())
    _, seen = run(tmp_path / "b", sized(), steps=6, resume=True, load_from=str(tmp_path / "a/iter_6.pth"))
    assert seen[: len(whole) - 6] == whole[6:]
