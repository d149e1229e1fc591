from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from footplate import Hook, Runner
from footplate.hooks import DistSamplerSeedHook
from tests.support import loader, settings


class Told:
    def __init__(self) -> None:
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


@pytest.mark.parametrize("inside", [False, True])
def test_the_sampler_is_told_wherever_it_is(inside: bool) -> None:
    sampler = Told()
    parts: Any = SimpleNamespace(sampler=None, batch_sampler=SimpleNamespace(sampler=sampler))
    if not inside:
        parts = SimpleNamespace(sampler=sampler)
    runner: Any = SimpleNamespace(train_dataloader=parts, epoch=3)
    DistSamplerSeedHook().before_train_epoch(runner)
    assert sampler.epochs == [3]


@pytest.mark.parametrize("sampler", [None, [0, 1]])
def test_samplers_that_cannot_be_told_leave_the_word_to_the_next(sampler: Any) -> None:
    inner = Told()
    parts: Any = SimpleNamespace(sampler=sampler, batch_sampler=SimpleNamespace(sampler=inner))
    DistSamplerSeedHook().before_train_epoch(SimpleNamespace(train_dataloader=parts, epoch=3))  # type: ignore[arg-type]
    assert inner.epochs == [3]


def test_a_loader_without_a_sampler_trains_through(tmp_path: Path) -> None:
    batch = {"inputs": torch.zeros(4, 4), "labels": torch.zeros(4, dtype=torch.long)}
    quiet = {"checkpoint": None, "logger": None}
    runner = Runner(**settings(tmp_path, train_dataloader=[batch] * 2, default_hooks=quiet))
    assert any(isinstance(hook, DistSamplerSeedHook) for hook in runner.hooks)
    runner.train()
    assert (runner.epoch, runner.iter) == (3, 6)


def test_each_epoch_has_its_own_order(tmp_path: Path) -> None:
    seen: list[list[Any]] = [[], [], []]

    class Look(Hook):
        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            seen[runner.epoch].extend(tuple(row) for row in data_batch["inputs"].tolist())

    still = loader(dataset={"type": "Points", "noise": 0.0})
    quiet = {"checkpoint": None, "logger": None}
    Runner(**settings(tmp_path, train_dataloader=still, custom_hooks=[Look()], default_hooks=quiet)).train()
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(seen[2])
    assert seen[0] != seen[1] != seen[2] != seen[0]
