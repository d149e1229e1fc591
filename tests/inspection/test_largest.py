from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from footplate.errors import DataError
from footplate.inspection.largest import largest_batch


class Pictures(Dataset[Any]):
    def __init__(self, widths: list[int], *, tells: bool) -> None:
        self.widths = widths
        if tells:
            self.get_data_info = lambda index: {"height": 2, "width": self.widths[index]}

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, index: int) -> Any:
        return {"inputs": torch.zeros(3, 2, self.widths[index])}


def widths(batch: Any) -> list[int]:
    return [sample["inputs"].shape[-1] for sample in batch]


@pytest.mark.parametrize("tells", [True, False])
def test_the_largest_samples_are_put_together(tells: bool) -> None:
    loader = DataLoader(Pictures([4, 9, 2, 7], tells=tells), batch_size=2, collate_fn=list)
    found = largest_batch(loader)
    assert sorted(widths(found.batch)) == [7, 9]
    assert found.samples == 4
    assert "3x2x9" in found.words
    assert ("by their recorded size" in found.words) is tells


def test_a_short_data_set_is_repeated() -> None:
    loader = DataLoader(Pictures([4], tells=False), batch_size=3, collate_fn=list)
    assert widths(largest_batch(loader).batch) == [4, 4, 4]


def test_other_loaders_give_their_first_batch() -> None:
    assert largest_batch([1, 2]).batch == 1
    with pytest.raises(DataError, match="gives no batch"):
        largest_batch([])
