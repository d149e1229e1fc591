"""A data loader whose batches are determined by seed, epoch and batch index."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice, repeat
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from footplate.data.own_samplers import KeptGenerators, OwnSamplers, begins_anywhere, is_known, warn_of_length
from footplate.data.reading import BatchKey, BatchReader, ReadFailure
from footplate.data.samplers import DefaultSampler
from footplate.data.seeding import kept_random_state, mixed_seed
from footplate.data.tails import Tail
from footplate.data.workers import WatchedLoader, Whereabouts, WorkerStart, interruptible
from footplate.distributed import get_rank, get_world_size
from footplate.errors import DataError
from footplate.records import length_of

_IN_USE = 2  # batches of a worker in the main process: one in training, and one that a hook may keep for a while


class SampleLoader(DataLoader[Any]):
    """A DataLoader that can start a pass at any batch, and whose batches do not depend on earlier reads.

    Each sample is read with a random state that is determined by seed, epoch and the sample's position in the global
    order; see `BatchReader`. So samples depend neither on the number of workers nor on whether the run was resumed.
    Iteration does not change the global random generators. Each `for batch in loader` iterates over the next epoch.
    To choose an epoch, call `batches` or the sampler's `set_epoch`.

    Args:
        dataset: A map-style dataset.
        seed: The seed of sample order and augmentation.
        batch_size: The number of samples per batch; None yields single samples instead of batches.
        shuffle: Whether the default sampler shuffles the samples; None means no, as in torch.
        sampler: Yields indices; a DefaultSampler by default. If its `round_up` is False, a rank without samples for
            the last batch reads one sample again, so that all ranks have the same number of batches; see `share`.
        batch_sampler: Yields lists of indices; replaces batch_size, shuffle, sampler and drop_last.
        drop_last: Whether to drop an incomplete last batch.
        num_batch_per_epoch: The maximum number of batches per pass. With an endless sampler, each pass continues where
            the previous one ended.
        options: Further arguments of torch's DataLoader.

    Attributes:
        share: The weight of the mean loss of the latest batch, so that the mean over ranks equals the mean over
            samples. It is 1 for all but an uneven last batch. There it is the number of samples of this rank divided
            by the mean over all ranks, and 0 if this rank has no samples left.

    Raises:
        DataError: While iterating: a sample cannot be read, or samples cannot be put into a batch.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        seed: int = 0,
        batch_size: int | None = 1,
        shuffle: bool | None = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        drop_last: bool = False,
        num_batch_per_epoch: int | None = None,
        **options: Any,
    ) -> None:
        if batch_sampler is not None:
            super().__init__(dataset, batch_sampler=batch_sampler, **options)
        else:
            sampler = sampler if sampler is not None else DefaultSampler(dataset, shuffle=bool(shuffle), seed=seed)
            super().__init__(dataset, batch_size, sampler=sampler, drop_last=drop_last, **options)
        self.seed = seed
        self._unseeded = [each for each in _samplers(self) if getattr(each, "generator", self) is None]
        self.own_samplers = OwnSamplers([each for each in _samplers(self) if not is_known(each)])
        self._plan = _Plan(self, limit=num_batch_per_epoch)
        self._reader = self._build_reader(options)
        self._next_epoch = 0
        self.share = 1.0

    @property
    def uneven(self) -> bool:
        """Whether the last batches of a pass may differ in size between ranks."""
        return self._plan.tail is not None

    @property
    def is_limited(self) -> bool:
        """Whether `num_batch_per_epoch` ends each pass."""
        return self._plan.limit is not None

    @property
    def passes_continue(self) -> bool:
        """Whether `num_batch_per_epoch` splits an endless sampler, so that each pass continues the previous one."""
        return self._plan.passes_continue

    @property
    def endless(self) -> bool:
        """Whether a pass is endless."""
        ends = self.is_limited or bool(self.own_samplers)
        return not ends and any(getattr(each, "endless", False) for each in _samplers(self))

    def batches(
        self, *, epoch: int = 0, start: int = 0, sample: int | None = None, most: int | None = None
    ) -> Iterator[Any]:
        """Yields the batches of one pass, starting with batch `start`; see the function `batches`.

        Raises:
            DataError: A sample cannot be read, or samples cannot be put into a batch.
        """
        self._plan.most = most
        self.own_samplers.begin(epoch, self._begun)
        self._begun(epoch, start, sample)
        shares = self._plan.shares()
        for batch in self._read():
            self.share = next(shares)
            if type(batch) is ReadFailure:
                batch.throw()
            yield batch
            del batch  # freed before the next one is requested, which wakes other processes: decision 025

    def _begun(self, epoch: int, start: int = 0, sample: int | None = None) -> "_Plan":
        """Prepares the samplers for a pass and returns its plan."""
        _set_epoch(self, epoch)
        for sampler in self._unseeded:
            sampler.generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        self._plan.epoch, self._plan.start, self._plan.sample = epoch, start, sample
        return self._plan

    def batches_from(self, sample: int) -> int:
        """Returns the number of batches left in a pass after each rank has read `sample` of its samples."""
        return self._plan.batches_from(sample)

    def count_once(self) -> None:
        """Disables padding, so that each sample is read exactly once, as with `round_up=False` of a DefaultSampler.

        Other samplers are not changed.
        """
        self._plan.count_once()

    def peek(self) -> Any:
        """Returns the first batch, read in this process; None if there are no batches.

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
        """Yields the batches of the next pass, which starts with epoch 0 or the epoch that was set on a sampler."""
        told = [each.epoch for each in _samplers(self) if isinstance(getattr(each, "epoch", None), int)]
        epoch = told[0] if told else self._next_epoch
        try:
            yield from self.batches(epoch=epoch)
        finally:
            if self._plan.epoch == epoch:  # no other pass was started since
                self._next_epoch = epoch + 1
                _set_epoch(self, epoch + 1)

    def __len__(self) -> int:
        return len(self._plan)

    def _read(self) -> Iterable[Any]:
        """Returns an iterable that reads the planned batches in workers or in this process."""
        if self.num_workers or self.pin_memory:
            return self._reader
        # Bypasses torch's iterator, whose profiler entry takes as long as some samples and slows down the reads in it.
        return map(self._reader.dataset.__getitem__, self._plan)

    def _build_reader(self, options: dict[str, Any]) -> DataLoader[Any]:
        # A second loader reads whole batches, so that `dataset` and `sampler` of this one are those of the user.
        self.whereabouts = Whereabouts(self.num_workers) if self.num_workers else None
        reader = BatchReader(
            self.dataset,
            collate=self.collate_fn,
            seed=self.seed,
            whereabouts=self.whereabouts,
            refilled=0 if self.pin_memory else (self.prefetch_factor or 0) + _IN_USE,
        )
        if self.whereabouts is not None:
            options = {**options, "worker_init_fn": WorkerStart(options.get("worker_init_fn"), self.whereabouts)}
        generator = torch.Generator().manual_seed(mixed_seed(self.seed))
        settings = {**options, "collate_fn": _as_it_is, "generator": generator}
        return WatchedLoader(reader, batch_size=None, sampler=self._plan, **settings)


class _Plan(Sampler[BatchKey]):
    """Yields the samples of each batch of a pass."""

    def __init__(self, loader: SampleLoader, *, limit: int | None) -> None:
        # Keeps no reference to the loader: with a reference cycle, joining each persistent worker takes seconds.
        self.sampler, self.batch_sampler = loader.sampler, loader.batch_sampler
        self.batch_size, self.drop_last = loader.batch_size or 1, loader.drop_last
        if loader.batch_size is None and type(self.batch_sampler) is BatchSampler:  # one that the user passed
            self.sampler, self.drop_last = self.batch_sampler.sampler, self.batch_sampler.drop_last
            self.batch_size = self.batch_sampler.batch_size
        self.limit = limit
        self.most: int | None = None
        self.own = [each for each in _samplers(loader) if not is_known(each)]
        self.passes_continue = limit is not None and not self.own and bool(getattr(self.sampler, "endless", False))
        self._before_first = 0  # samples before pass 0, if passes continue and the batch size has changed
        self.seed = loader.seed
        self.epoch = 0
        self.start = 0
        self.sample: int | None = None
        self._number = 0
        self._rank, self._world_size = get_rank(), get_world_size()
        self.tail = self._uneven_tail()

    def __iter__(self) -> Iterator[BatchKey]:
        self._number += 1
        # The settings are bound here, so that overlapping passes do not affect each other.
        ends = [each for each in (self.limit, self.most) if each is not None]
        warns = bool(self.own) and self.epoch == 0 and self.limit is None
        if self.own and ends and self.start >= min(ends) > 0:
            # The pass is over, but its samplers must be iterated, since they may draw random numbers for the next one.
            whole = self._keys(self.epoch, 0, None, self._number)
            return islice(self._limited(whole, min(ends), 0, warns=warns), min(ends), None)
        keys = self._keys(self.epoch, self.start, self.sample, self._number)
        if self.tail is not None:
            keys = self._evened(keys, self.tail, self.epoch, self._first)
        return self._limited(keys, min(ends), self.start, warns=warns) if ends else keys

    def _limited(self, keys: Iterator[BatchKey], end: int, start: int, *, warns: bool) -> Iterator[BatchKey]:
        """Ends a pass after its length, and warns if the samplers yield more."""
        yield from islice(keys, max(end - start, 0))
        if warns and next(keys, None) is not None:
            warn_of_length(self.own, end)

    def shares(self) -> Iterator[float]:
        """Yields the share of each batch of the current pass, see `SampleLoader`, and 1 after the last batch."""
        if self.tail is None:
            return repeat(1.0)
        return (self.tail.share(done, self.batch_size) for done in count(self._first, self.batch_size))

    def batches_from(self, sample: int) -> int:
        """Returns the number of batches left in a pass after each rank has read `sample` of its samples."""
        if self.tail is not None:
            return self.tail.batches_from(sample, self.batch_size, drop_last=self.drop_last)
        sampler: Any = self.sampler
        left = len(sampler) - sample
        return max(left // self.batch_size if self.drop_last else -(-left // self.batch_size), 0)

    def count_once(self) -> None:
        """Disables the padding of a DefaultSampler."""
        sampler: Any = self.sampler
        if type(sampler) is DefaultSampler:
            sampler.count_once()
            self.tail = self._uneven_tail()

    @property
    def _first(self) -> int:
        """The number of this rank's samples before the first batch of the current pass."""
        return self._samples_before(self.epoch, self.start, self.sample)

    def _samples_before(self, epoch: int, start: int, sample: int | None) -> int:
        """Returns the number of this rank's samples before batch `start` of a pass; if passes continue, of all passes.

        Args:
            epoch: The index of the pass.
            start: The index of the batch.
            sample: The result, if earlier batches had a different size.
        """
        if not self.passes_continue:
            return start * self.batch_size if sample is None else sample
        before = (epoch * (self.limit or 0) + start) * self.batch_size
        if sample is not None:
            self._before_first = sample - before
        return self._before_first + before

    def _uneven_tail(self) -> Tail | None:
        sampler = self.sampler
        plain = self.batch_sampler is None or type(self.batch_sampler) is BatchSampler
        if not plain or not isinstance(sampler, DefaultSampler) or sampler.round_up or not begins_anywhere(sampler):
            return None
        return Tail(sampler.size, self._rank, self._world_size) if sampler.size % self._world_size else None

    def _evened(self, keys: Iterator[BatchKey], tail: Tail, epoch: int, first: int) -> Iterator[BatchKey]:
        """Drops a batch or adds one with a repeated sample, so that all ranks have the same number of batches."""
        left = tail.batches_from(first, self.batch_size, drop_last=self.drop_last)
        yield from islice(keys, left)
        own = max(tail.own, first)
        if -(-(own - first) // self.batch_size) < left:
            position = self._rank + own * self._world_size
            sampler: Any = self.sampler
            again = [sampler.at(position, epoch)]
            yield BatchKey(epoch, range(position, position + 1), again, self.batch_sampler is None, self._number)

    def __len__(self) -> int:
        if self.tail is not None:
            length = self.batches_from(0)
            return length if self.limit is None else min(length, self.limit)
        if self.passes_continue and self.limit is not None:
            return self.limit
        batches_or_samples = self.sampler if self.batch_sampler is None else self.batch_sampler
        length = len(batches_or_samples)  # type: ignore[arg-type]
        return length if self.limit is None else min(length, self.limit)

    def _keys(self, epoch: int, start: int, sample: int | None, number: int) -> Iterator[BatchKey]:
        alone = self.batch_sampler is None
        if self.own:
            generators = KeptGenerators(mixed_seed(self.seed, epoch))
            with generators.lent():
                done, groups = self._from(epoch, start, sample)
            groups = generators.around(groups)
        else:
            done, groups = self._from(epoch, start, sample)
        for indices in groups:
            stop = done + len(indices)
            positions = range(
                self._rank + done * self._world_size, self._rank + stop * self._world_size, self._world_size
            )
            yield BatchKey(epoch, positions, indices, alone, number)
            done = stop

    def _from(self, epoch: int, start: int, sample: int | None) -> tuple[int, Iterator[Sequence[Any]]]:
        """Returns the number of samples before batch `start`, and an iterator over the indices of each later batch."""
        if self.batch_sampler is not None and type(self.batch_sampler) is not BatchSampler:
            groups: Iterator[Sequence[Any]] = iter(self.batch_sampler)
            return sum(len(skipped) for skipped in islice(groups, start)), groups
        first = self._samples_before(epoch, start, sample)
        sampler: Any = self.sampler
        indices = sampler.iterate_from(first) if begins_anywhere(sampler) else islice(iter(sampler), first, None)
        return first, _grouped(indices, self.batch_size, drop_last=self.drop_last)


def batches(
    loader: Iterable[Any], *, epoch: int = 0, start: int = 0, sample: int | None = None, most: int | None = None
) -> Iterator[Any]:
    """Yields the batches of one pass over a loader, starting with batch `start`.

    A `SampleLoader` skips batches at no cost. Other loaders read the skipped batches.

    Args:
        loader: Any iterable of batches.
        epoch: The index of the pass, which is passed to the samplers' `set_epoch`.
        start: The index of the first batch.
        sample: The number of this rank's samples before the first batch, if earlier batches had a different size. It
            counts the samples of this pass, or of all passes if `passes_continue`. Only a `SampleLoader` uses it.
        most: The maximum number of batches in the pass, including those before `start`.

    Raises:
        DataError: While iterating: a sample cannot be read, or samples cannot be put into a batch.
    """
    if isinstance(loader, SampleLoader):
        return loader.batches(epoch=epoch, start=start, sample=sample, most=most)
    _set_epoch(loader, epoch)
    iterator = iter(loader)
    if isinstance(iterator, _MultiProcessingDataLoaderIter):
        iterator = interruptible(iterator)
    found = _skipped(iterator, start)
    return found if most is None else islice(found, max(most - start, 0))


def endless_batches(loader: Iterable[Any], *, start: int = 0, sample: int | None = None) -> Iterator[Any]:
    """Yields batches of endless passes.

    Args:
        loader: Any iterable of batches.
        start: The index of the first batch, counted over all passes.
        sample: The number of this rank's samples in the same pass before the first batch; see `batches`.

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
            del batch
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
    """Returns the samplers and batch samplers of a loader."""
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
