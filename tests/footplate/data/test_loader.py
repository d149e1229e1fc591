import random
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from footplate.data import (
    DefaultSampler,
    InfiniteSampler,
    SampleLoader,
    batches,
    build_dataloader,
    default_collate,
    endless_batches,
    seed_generators,
)
from footplate.errors import DataError


class Noise(Dataset[Any]):
    """Samples of an index and random numbers of the three generators."""

    def __init__(self, size: int = 11) -> None:
        self.size = size
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        self.read.append(index)
        return index, random.random(), float(np.random.rand()), float(torch.rand(()))


def noisy_collate(samples: list[Any]) -> Any:
    return [tuple(sample) for sample in samples], random.random()


def loader(workers: int = 0, **options: Any) -> SampleLoader:
    options = {"seed": 3, "batch_size": 2, "shuffle": True, "collate_fn": noisy_collate, **options}
    return SampleLoader(options.pop("dataset", None) or Noise(), num_workers=workers, **options)


@pytest.mark.parametrize(("workers", "persistent"), [(1, False), (2, True)])
def test_batches_do_not_depend_on_workers(workers: int, persistent: bool) -> None:
    alone, several = loader(), loader(workers, persistent_workers=persistent)
    for epoch in (0, 4):
        assert list(batches(several, epoch=epoch)) == list(batches(alone, epoch=epoch))


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 8), st.integers(0, 3), st.booleans())
def test_a_pass_can_start_at_any_batch(size: int, batch_size: int, start: int, epoch: int, drop_last: bool) -> None:
    found = loader(dataset=Noise(size), batch_size=batch_size, drop_last=drop_last)
    whole = list(batches(found, epoch=epoch))
    assert list(batches(found, epoch=epoch, start=start)) == whole[start:]
    assert len(found) == len(whole)


@pytest.mark.parametrize(("workers", "kind"), [(0, "default"), (1, "default"), (0, "torch"), (0, "batch")])
def test_each_iteration_is_the_next_epoch(workers: int, kind: str) -> None:
    def built(workers: int) -> SampleLoader:
        if kind == "torch":
            return loader(workers, sampler=RandomSampler(Noise()), shuffle=False)
        if kind == "batch":
            batch_sampler = BatchSampler(DefaultSampler(Noise(), seed=3), 2, drop_last=False)
            return loader(workers, batch_sampler=batch_sampler, batch_size=1, shuffle=False)
        return loader(workers)

    found, other = built(workers), built(0)
    passes = [list(found) for _ in range(3)]
    assert passes == [list(batches(other, epoch=epoch)) for epoch in range(3)]
    assert passes[0] != passes[1]


def test_samples_depend_only_on_position_and_epoch() -> None:
    by_two = list(chain.from_iterable(batch for batch, _ in loader(batch_size=2)))
    by_three = list(chain.from_iterable(batch for batch, _ in loader(batch_size=3)))
    assert by_two == by_three
    other = {sample[0]: sample for batch, _ in batches(loader(), epoch=1) for sample in batch}
    assert all(other[sample[0]][1] != sample[1] for sample in by_two)
    assert [batch for batch, _ in loader(seed=4)] != [batch for batch, _ in loader()]


def test_positions_have_different_random_numbers() -> None:
    again = list(SampleLoader(Noise(), sampler=[4, 4, 4], collate_fn=lambda samples: samples[0][1]))
    assert len(set(again)) == 3


def test_peeking_with_workers_does_not_read_in_this_process() -> None:
    dataset = Noise()
    several = loader(2, persistent_workers=True, dataset=dataset)
    first = next(iter(loader()))
    assert several.peek() == loader().peek() == first
    assert not dataset.read  # otherwise, workers would inherit files that the dataset has opened
    assert next(iter(several)) == first


@pytest.mark.parametrize("workers", [0, 1])
def test_iterating_does_not_change_the_global_generators(workers: int) -> None:
    seed_generators(1)
    expected = random.random(), np.random.rand(), torch.rand(())
    seed_generators(1)
    plain = SampleLoader(Noise(), sampler=RandomSampler(Noise()), num_workers=workers)
    for each in (loader(workers), plain):
        list(each)
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(range(40), replacement=True),
        SubsetRandomSampler(range(40)),
        WeightedRandomSampler([1.0] * 40, 40),
        WeightedRandomSampler([1.0] * 40, 40, generator=torch.Generator().manual_seed(2)),
        RandomSampler(range(40), replacement=True, generator=torch.Generator().manual_seed(2)),
    ],
)
def test_a_torch_sampler_yields_the_same_order_when_it_is_used_again(sampler: Any) -> None:
    def orders() -> list[Any]:
        plain = DataLoader(Noise(40), 4, sampler=sampler, collate_fn=lambda samples: [sample[0] for sample in samples])
        converted = build_dataloader(plain, seed=1)
        next(batches(converted, epoch=0))
        converted.peek()
        return [list(batches(converted, epoch=epoch)) for epoch in (2, 3, 2)]

    first = orders()
    assert first[0] == first[2]
    torch.rand(1)
    assert orders() == first
    assert first[0] != first[1]


@pytest.mark.parametrize("start", [0, 20])
def test_endless_batches_can_start_anywhere(start: int) -> None:
    expected = [
        *batches(loader()),
        *batches(loader(), epoch=1),
        *batches(loader(), epoch=2),
        *batches(loader(), epoch=3),
    ]
    assert list(islice(endless_batches(loader(), start=start), 3)) == expected[start : start + 3]


def test_an_infinite_sampler_has_one_endless_pass() -> None:
    start = 13
    sampler = InfiniteSampler(range(5), seed=2)
    found = SampleLoader(Noise(5), batch_size=2, sampler=sampler, collate_fn=noisy_collate)
    whole = list(islice(endless_batches(found), 17))
    assert found.endless
    assert list(islice(endless_batches(found, start=start), 4)) == whole[start : start + 4]
    limited = SampleLoader(Noise(5), sampler=sampler, num_batch_per_epoch=2, collate_fn=list)
    assert not limited.endless
    assert len(list(limited)) == 2


class PrivateError(Exception):
    """Cannot be unpickled, since its constructor needs two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class Failing:
    def __init__(self, error: BaseException, *, path: str | None = None) -> None:
        self.error = error
        self.path = path

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise self.error
        return [0.0] * (1 + (index == 5))

    def get_data_info(self, index: int) -> dict[str, Any]:
        return {"img_path": self.path}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "path", "expected"),
    [
        (
            KeyError("img"),
            "/data/3.png",
            r"sample 3 of the dataset 'Failing' cannot be read: KeyError: 'img'\n  file: /data/3.png\n"
            r"  raised in __getitem__\(\) at .*test_loader.py:\d+$",
        ),
        (PrivateError("to", "day\nmore"), None, r"cannot be read: PrivateError: today\n  raised in"),
        (
            FileNotFoundError(2, "No such file or directory", "/missing/labels/3.png"),
            None,
            r"cannot be read: FileNotFoundError: .*'/missing/labels/3.png'\n  the folder '/' has no 'missing'",
        ),
        (
            DataError("no image", found="a.png", notes=["look there"]),
            "a.png",
            r"sample 3 .* cannot be read: no image\n  found: 'a.png'\n  look there$",
        ),
    ],
)
def test_an_unreadable_sample_is_reported(workers: int, error: Exception, path: str | None, expected: str) -> None:
    loader = SampleLoader(Failing(error, path=path), num_workers=workers)
    with pytest.raises(DataError, match=expected) as raised:
        list(loader)
    cause = raised.value.__cause__
    assert str(error) in str(cause)
    assert len(str(raised.value).splitlines()) <= 5
    if workers:
        assert "in worker 1" in str(cause)
        assert "test_loader.py" in str(cause)


@pytest.mark.parametrize(
    ("bad", "note"),
    [
        (None, "Sample 1 is None."),
        ({"x": [1]}, r"sample 2 has torch.Size\(\[2\]\), sample 1 has {'x': \['int'\]}"),
    ],
)
def test_samples_that_cannot_be_collated_are_reported(bad: Any, note: str) -> None:
    loader = SampleLoader([torch.ones(2), bad, torch.ones(2)], batch_size=3, collate_fn=default_collate)
    with pytest.raises(DataError, match=rf"samples 0, 1, 2 cannot be collated into a batch: .*\n  {note}"):
        list(loader)


def test_interrupts_are_not_caught() -> None:
    class Interrupted(Failing):
        def __getitem__(self, index: int) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(SampleLoader(Interrupted(KeyError())))
