"""A loader whose batches are a function of seed, epoch and number."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from footplate.data.reading import BatchKey, BatchReader, ReadFailure
from footplate.data.samplers import DefaultSampler
from footplate.data.seeding import kept_random_state, mixed_seed
from footplate.data.workers import Whereabouts, WorkerStart
from footplate.distributed import get_rank, get_world_size
from footplate.errors import DataError
from footplate.records import length_of


class SampleLoader(DataLoader[Any]):
    """A DataLoader that begins a pass at any batch, and whose batches do not depend on what was read before.

    Every sample is read with random state of its own, a function of seed, epoch and its position in the
    global order (see `BatchReader`): neither the number of workers nor a resumed run changes it. Iterating
    draws nothing from the global generators.

    Args:
        dataset: A data set with length and index.
        seed: Of order and augmentation.
        batch_size: Samples a batch; None gives samples as they are.
        shuffle: Of the default sampler.
        sampler: Yields indices; by default a DefaultSampler.
        batch_sampler: Yields lists of indices; it replaces batch_size, shuffle, sampler and drop_last.
        drop_last: Leave out an incomplete last batch.
        num_batch_per_epoch: End a pass after so many batches.
        options: Further arguments of torch's DataLoader.

    Raises:
        DataError: While iterating: a sample cannot be read, or samples cannot be put into a batch.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        seed: int = 0,
        batch_size: int | None = 1,
        shuffle: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        drop_last: bool = False,
        num_batch_per_epoch: int | None = None,
        **options: Any,
    ) -> None:
        if batch_sampler is not None:
            super().__init__(dataset, batch_sampler=batch_sampler, **options)
        else:
            sampler = sampler if sampler is not None else DefaultSampler(dataset, shuffle=shuffle, seed=seed)
            super().__init__(dataset, batch_size, sampler=sampler, drop_last=drop_last, **options)
        self.seed = seed
        self._unseeded = [each for each in _samplers(self) if getattr(each, "generator", self) is None]
        self._plan = _Plan(self, limit=num_batch_per_epoch)
        self._reader = self._build_reader(options)

    @property
    def endless(self) -> bool:
        """Whether a pass has no end."""
        return self._plan.limit is None and any(getattr(each, "endless", False) for each in _samplers(self))

    def batches(self, *, epoch: int = 0, start: int = 0, sample: int | None = None) -> Iterator[Any]:
        """Yields the batches of one pass from number `start` on; see the function `batches`.

        Raises:
            DataError: A sample cannot be read, or samples cannot be put into a batch.
        """
        _set_epoch(self, epoch)
        for sampler in self._unseeded:
            sampler.generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        self._plan.epoch, self._plan.start, self._plan.sample = epoch, start, sample
        for batch in self._reader:
            if type(batch) is ReadFailure:
                batch.throw()
            yield batch

    def peek(self) -> Any:
        """Returns the first batch, read in this process; None without batches.

        Raises:
            DataError: A sample cannot be read, or samples cannot be put into a batch.
        """
        self._plan.epoch, self._plan.start, self._plan.sample = 0, 0, None
        key = next(iter(self._plan), None)
        batch = None if key is None else self._reader.dataset[key]
        if type(batch) is ReadFailure:
            batch.throw()
        return batch

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return self.batches(epoch=getattr(self.sampler, "epoch", 0))

    def __len__(self) -> int:
        return len(self._plan)

    def _build_reader(self, options: dict[str, Any]) -> DataLoader[Any]:
        # A loader of whole batches: this one is what users see, with their data set and sampler.
        self.whereabouts = Whereabouts(self.num_workers) if self.num_workers else None
        reader = BatchReader(self.dataset, collate=self.collate_fn, seed=self.seed, whereabouts=self.whereabouts)
        if self.whereabouts is not None:
            options = {**options, "worker_init_fn": WorkerStart(options.get("worker_init_fn"), self.whereabouts)}
        generator = torch.Generator().manual_seed(mixed_seed(self.seed))
        settings = {**options, "collate_fn": _as_it_is, "generator": generator}
        return DataLoader(reader, batch_size=None, sampler=self._plan, **settings)


class _Plan(Sampler[BatchKey]):
    """Which samples go into which batch of a pass."""

    def __init__(self, loader: SampleLoader, *, limit: int | None) -> None:
        # Not the loader itself: in a cycle, persistent workers are joined only after seconds each.
        self.sampler, self.batch_sampler = loader.sampler, loader.batch_sampler
        self.batch_size, self.drop_last = loader.batch_size or 1, loader.drop_last
        self.limit = limit
        self.epoch = 0
        self.start = 0
        self.sample: int | None = None
        self._rank, self._world_size = get_rank(), get_world_size()

    def __iter__(self) -> Iterator[BatchKey]:
        # The numbers are bound here, so that passes that overlap do not disturb each other.
        stop = None if self.limit is None else max(self.limit - self.start, 0)
        return islice(self._keys(self.epoch, self.start, self.sample), stop)

    def __len__(self) -> int:
        batches_or_samples = self.sampler if self.batch_sampler is None else self.batch_sampler
        length = len(batches_or_samples)  # type: ignore[arg-type]
        return length if self.limit is None else min(length, self.limit)

    def _keys(self, epoch: int, start: int, sample: int | None) -> Iterator[BatchKey]:
        alone = self.batch_sampler is None
        done, groups = self._from(start, sample)
        for indices in groups:
            stop = done + len(indices)
            positions = range(
                self._rank + done * self._world_size, self._rank + stop * self._world_size, self._world_size
            )
            yield BatchKey(epoch, positions, indices, alone)
            done = stop

    def _from(self, start: int, sample: int | None) -> tuple[int, Iterator[Sequence[Any]]]:
        """Returns how many samples come before batch `start`, and the indices of the batches from it on."""
        if self.batch_sampler is not None and type(self.batch_sampler) is not BatchSampler:
            groups: Iterator[Sequence[Any]] = iter(self.batch_sampler)
            return sum(len(skipped) for skipped in islice(groups, start)), groups
        first = start * self.batch_size if sample is None else sample
        if hasattr(self.sampler, "iterate_from"):
            indices = self.sampler.iterate_from(first)
        else:
            indices = islice(iter(self.sampler), first, None)
        return first, _grouped(indices, self.batch_size, drop_last=self.drop_last)


def batches(loader: Iterable[Any], *, epoch: int = 0, start: int = 0, sample: int | None = None) -> Iterator[Any]:
    """Yields the batches of one pass over a loader from number `start` on.

    Beginning late costs nothing where the loader is a `SampleLoader`; other loaders read what is skipped.

    Args:
        loader: Any iterable of batches.
        epoch: Which pass it is; samplers with `set_epoch` are told.
        start: The number of the first batch.
        sample: How many of this rank's samples lie before it, where earlier batches were of another size; only a
            `SampleLoader` can tell.

    Raises:
        DataError: While iterating: a sample cannot be read, or samples cannot be put into a batch.
    """
    if isinstance(loader, SampleLoader):
        return loader.batches(epoch=epoch, start=start, sample=sample)
    _set_epoch(loader, epoch)
    return _skipped(iter(loader), start)


def endless_batches(loader: Iterable[Any], *, start: int = 0, sample: int | None = None) -> Iterator[Any]:
    """Yields batches without an end, pass after pass, from number `start` on, counted over all passes.

    Args:
        loader: Any iterable of batches.
        start: The number of the first batch.
        sample: How many of this rank's samples of its pass lie before it; see `batches`.

    Raises:
        DataError: While iterating: as `batches` does, or a pass holds no batch.
    """
    if isinstance(loader, SampleLoader) and loader.endless:
        return loader.batches(start=start, sample=sample)
    length = length_of(loader)
    if length is None:
        return _skipped(_passes(loader, 0, 0), start)
    return _passes(loader, *divmod(start, length or 1), sample)


def _passes(loader: Iterable[Any], first: int, start: int, sample: int | None = None) -> Iterator[Any]:
    for epoch in count(first):
        empty = True
        for batch in batches(loader, epoch=epoch, start=start, sample=sample):
            empty = False
            yield batch
        if empty:
            raise DataError("the loader holds no batch")
        start, sample = 0, None


def _skipped(iterator: Iterator[Any], number: int) -> Iterator[Any]:
    if number:
        with kept_random_state():
            for _ in islice(iterator, number):
                pass
    return iterator


def _samplers(loader: object) -> list[Any]:
    """Whatever decides the order in a loader."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    found = getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)
    return list({id(each): each for each in found if each is not None}.values())


def _set_epoch(loader: object, epoch: int) -> None:
    for sampler in _samplers(loader):
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)


def _grouped(indices: Iterator[Any], size: int, *, drop_last: bool) -> Iterator[list[Any]]:
    while group := list(islice(indices, size)):
        if len(group) < size and drop_last:
            return
        yield group


def _as_it_is(batch: Any) -> Any:
    return batch
