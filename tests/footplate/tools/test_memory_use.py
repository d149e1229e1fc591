from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from footplate.data.data_container import DataContainer
from footplate.errors import DataError
from footplate.models.activation_checkpointing import checkpoint_activations
from footplate.tools.memory_use import counting_activations, largest_batch


class Pictures(Dataset[Any]):
    def __init__(self, widths: list[int]) -> None:
        self.widths = widths

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, index: int) -> Any:
        return {"inputs": torch.zeros(3, 2, self.widths[index])}


def widths(batch: Any) -> list[int]:
    return [sample["inputs"].shape[-1] for sample in batch]


class Containers(Pictures):
    """Pictures as MMDetection 2.x returns them."""

    def __getitem__(self, index: int) -> Any:
        return {"img": DataContainer(super().__getitem__(index)["inputs"], stack=True)}


def test_samples_in_data_containers_are_measured() -> None:
    found = largest_batch(DataLoader(Containers([4, 9, 2, 7]), batch_size=2, collate_fn=list))
    assert sorted(sample["img"].data.shape[-1] for sample in found.batch) == [7, 9]
    assert found.description == "batches of 2, 4 inspected, of several sizes, at most 3x2x9"


def sizes(data: Dataset[Any], batch_size: int) -> list[tuple[int, ...]]:
    found = largest_batch(DataLoader(data, batch_size=batch_size, collate_fn=list))
    return sorted(tuple(sample.shape[1:]) for sample in found.batch)


class Damaged(Pictures):
    def __getitem__(self, index: int) -> Any:
        if index == 2:
            raise ValueError("no pixels")
        return super().__getitem__(index)


def test_errors_contain_the_index_of_the_sample() -> None:
    with pytest.raises(DataError, match="sample 2 of the dataset 'Damaged' cannot be read: ValueError: no pixels"):
        largest_batch(DataLoader(Damaged([4, 9, 2]), batch_size=2, collate_fn=list))
    with pytest.raises(DataError, match="samples 1, 0 "):
        largest_batch(DataLoader(Pictures([4, 9]), batch_size=2))


_FLOAT = 4  # bytes


def test_module_with_activation_checkpointing_saves_its_inputs() -> None:
    block = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))
    model = nn.Sequential(nn.Linear(2, 8), block)
    points = torch.ones(5, 2)
    with counting_activations(model) as plain:
        model(points).sum()
    assert plain() == 5 * (2 + 8 + 64) * _FLOAT
    checkpoint_activations(model, "1")
    with counting_activations(model) as found:
        model(points).sum()
    assert found() == 5 * (2 + 8) * _FLOAT
    assert not block._forward_pre_hooks
