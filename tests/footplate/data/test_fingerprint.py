"""Hooks change datasets, samplers and loaders between epochs, and the next epoch reads what they set."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from footplate import Hook, Runner
from footplate.data import batches
from tests.support import Points, settings


class Changing(Points):
    """Points with parts that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__(noise=0.0)
        self.shift = 0.0
        self.transform: Callable[[Any], Any] = lambda inputs: inputs
        self.lock = threading.Lock()  # cannot be pickled

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        return {**sample, "inputs": self.transform(sample["inputs"] + self.shift)}


CHANGES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda loader: setattr(loader.dataset, "shift", 1.0),
    "size": lambda loader: setattr(loader.dataset, "size", 24),
    "batch size": lambda loader: setattr(loader.batch_sampler, "batch_size", 8),
}


class Numbers(IterableDataset[int]):
    first = 0

    def set_epoch(self, epoch: int) -> None:
        self.first = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.first + 2))


def test_persistent_workers_of_an_iterable_dataset_are_told_the_epoch() -> None:
    loader = DataLoader(Numbers(), None, num_workers=1, persistent_workers=True)
    assert [list(batches(loader, epoch=epoch)) for epoch in (0, 3)] == [[0, 1], [3, 4]]


class SwitchHook(Hook):
    """Changes the data from the second epoch on, like the hooks of MMDetection."""

    def __init__(self, change: str) -> None:
        self.change, self.has_switched = change, False
        self.samples: list[float] = []

    def before_train_epoch(self, runner: Any) -> None:
        loader = runner.train_dataloader
        if runner.epoch >= 1 and not self.has_switched:
            CHANGES[self.change](loader)
            self.has_switched = True

    def before_train_iter(self, runner: Any, data_batch: Any) -> None:  # type: ignore[override]
        self.samples += data_batch["inputs"][:, 0].tolist()


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_that_changes_its_data_resumes_exactly(tmp_path: Path, change: str) -> None:
    def train(folder: str, **changes: Any) -> tuple[list[float], dict[str, Any]]:
        hook = SwitchHook(change)
        data = DataLoader(Changing(), 4, shuffle=True, num_workers=1, persistent_workers=True)
        checkpoint = {"checkpoint": {"by_epoch": False, "interval": 1}, "logger": None}
        changes |= {"train_dataloader": data, "custom_hooks": [hook], "default_hooks": checkpoint}
        runner = Runner(**settings(tmp_path / folder, **changes))
        runner.train()
        return hook.samples, runner.model.state_dict()

    whole, weights = train("whole")
    # In the second epoch, and at its end if batches have twice the size.
    for iteration in (5, 6) if change == "batch size" else (6,):
        path = str(tmp_path / f"whole/iter_{iteration}.pth")
        resumed, again = train(str(iteration), load_from=path, resume=True)
        assert resumed == whole[-len(resumed) :]
        assert len(resumed) < len(whole) - 16
        assert all(map(torch.equal, weights.values(), again.values()))
