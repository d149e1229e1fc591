from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset

from footplate.records import length_of


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


POINTS: Any = range(5)
BATCHES = DataLoader(POINTS, batch_size=2)


@pytest.mark.parametrize(
    ("loader", "length"),
    [([1, 2, 3], 3), ([], 0), (iter([1]), None), (None, None), (BATCHES, 3)],
)
def test_how_long_a_pass_is(loader: Any, length: int | None) -> None:
    assert length_of(loader) == length


def test_a_stream_does_not_know() -> None:
    stream: Any = DataLoader(Stream())
    assert length_of(stream) is None
