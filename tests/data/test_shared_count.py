import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from footplate.data.shared_count import SharedCount, skipped_in


class Counting(Dataset[int]):
    def __init__(self) -> None:
        self.count = SharedCount(3)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        return self.count.add() * 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_count_together(method: str) -> None:
    dataset = Counting()
    for _ in DataLoader(dataset, num_workers=2, multiprocessing_context=method):
        pass
    assert dataset.count.value == 11


def test_a_copy_counts_by_itself() -> None:
    count = SharedCount()
    assert count.add() == 1
    for other in (copy.deepcopy(count), pickle.loads(pickle.dumps(count))):
        assert other.add() == 2
    assert count.value == 1


def test_what_was_skipped_inside_counts() -> None:
    def dataset(skipped: Any) -> Any:
        return SimpleNamespace(skipped=skipped, metainfo={}, __len__=lambda: 1)

    assert skipped_in(None) == 0
    assert skipped_in(SimpleNamespace(dataset=dataset(2))) == 2
    assert skipped_in(SimpleNamespace(datasets=[dataset(2), SimpleNamespace(dataset=dataset(3))])) == 5
