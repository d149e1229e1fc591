from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import Dataset

from footplate.data import SampleLoader
from footplate.data.collate import pseudo_collate
from footplate.errors import DataError


class Unsendable(Dataset[Any]):
    """Holds a generator, which no process can hand to another, in the samples `where`."""

    def __init__(self, *where: int) -> None:
        self.where = where

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return {"index": index, "rest": (each for each in "ab") if index in self.where else None}


def first_of_each(samples: list[Any]) -> Iterator[Any]:
    return (sample["index"] for sample in samples)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sample_that_cannot_be_handed_over_is_named(workers: int) -> None:
    loader = SampleLoader(Unsendable(5), batch_size=4, num_workers=workers, collate_fn=pseudo_collate, timeout=60)
    found = iter(loader)
    assert next(found)["index"] == [0, 1, 2, 3]
    with pytest.raises(DataError) as caught:
        next(found)
    assert caught.value.message == (
        "sample 5 cannot go from a worker to the main process: TypeError: cannot pickle 'generator' object"
    )
    assert caught.value.notes == ("what a worker reads has to be picklable; num_workers=0 reads in the main process",)


def test_where_its_parts_do_not_tell_the_batch_is_named() -> None:
    loader = SampleLoader(Unsendable(), batch_size=4, num_workers=1, collate_fn=first_of_each, timeout=60)
    with pytest.raises(DataError, match="^the batch of samples 0, 1, 2, 3 cannot go from a worker"):
        list(loader)


def test_it_is_no_matter_in_the_main_process() -> None:
    assert len(list(SampleLoader(Unsendable(5), batch_size=4, collate_fn=pseudo_collate))) == 3
