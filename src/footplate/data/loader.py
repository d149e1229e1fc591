"""A loader whose batches are a function of seed, epoch and number."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice, repeat
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from footplate.data.own_samplers import KeptGenerators, OwnSamplers, begins_anywhere, is_known, warn_of_length
from footplate.data.reading import BatchKey, BatchReader, ReadFailure
from footplate.data.samplers import DefaultSampler
from footplate.data.seeding import kept_random_state, mixed_seed
from footplate.data.tails import Tail
from footplate.data.workers import WatchedLoader, Whereabouts, WorkerStart
from footplate.distributed import get_rank, get_world_size
from footplate.errors import DataError
from footplate.records import length_of

_IN_USE = 2  # batches of a worker in the main process: the one that trains, and one that a hook keeps for a while


class SampleLoader(DataLoader[Any]):
    """A DataLoader that begins a pass at any batch, and whose batches do not depend on what was read before.

    Every sample is read with random state of its own, a function of seed, epoch and its position in the
    global order (see `BatchReader`): neither the number of workers nor a resumed run changes it. Iterating
    draws nothing from the global generators. Each `for batch in loader` is the next epoch; `batches` and a sampler's
    `set_epoch` choose one.

    Args:
        dataset: A data set with length and index.
        seed: Of order and augmentation.
        batch_size: Samples a batch; None gives samples as they are.
        shuffle: Of the default sampler.
        sampler: Yields indices; by default a DefaultSampler. With its `round_up=False` a rank that has no sample left
            for a last batch reads one again, so that all ranks have equally many batches; see `share`.
        batch_sampler: Yields lists of indices; it replaces batch_size, shuffle, sampler and drop_last.
        drop_last: Leave out an incomplete last batch.
        num_batch_per_epoch: End a pass after so many batches. With a sampler that never ends, each pass continues where
            the one before it ended.
        options: Further arguments of torch's DataLoader.

    Attributes:
        share: How much the mean loss of the last batch weighs, so that the mean over ranks is the mean over samples: 1,
            but in an uneven last round the samples of this rank over the mean of all, 0 where it has none.

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
        self.own_samplers = OwnSamplers([each for each in _samplers(self) if not is_known(each)])
        self._plan = _Plan(self, limit=num_batch_per_epoch)
        self._reader = self._build_reader(options)
        self._next_epoch = 0
        self.share = 1.0

    @property
    def uneven(self) -> bool:
        """Whether a pass may end with batches of unequal size on several ranks."""
        return self._plan.tail is not None

    @property
    def is_limited(self) -> bool:
        """Whether `num_batch_per_epoch` ends each pass."""
        return self._plan.limit is not None

    @property
    def passes_continue(self) -> bool:
        """Whether each pass continues where the one before it ended: `num_batch_per_epoch` cuts an endless one."""
        return self._plan.passes_continue

    @property
    def endless(self) -> bool:
        """Whether a pass has no end."""
        ends = self.is_limited or bool(self.own_samplers)
        return not ends and any(getattr(each, "endless", False) for each in _samplers(self))

    def batches(
        self, *, epoch: int = 0, start: int = 0, sample: int | None = None, most: int | None = None
    ) -> Iterator[Any]:
        """Yields the batches of one pass from number `start` on; see the function `batches`.

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
            del batch  # given back before the next is asked for, which wakes other processes: decision 025

    def _begun(self, epoch: int, start: int = 0, sample: int | None = None) -> "_Plan":
        """Returns the plan of a pass."""
        _set_epoch(self, epoch)
        for sampler in self._unseeded:
            sampler.generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        self._plan.epoch, self._plan.start, self._plan.sample = epoch, start, sample
        return self._plan

    def batches_from(self, sample: int) -> int:
        """Returns how many batches of a pass are left when a rank has had so many of its samples."""
        return self._plan.batches_from(sample)

    def count_once(self) -> None:
        """Has every sample be in one batch of one rank, as with a DefaultSampler whose `round_up` is False.

        Samplers of other classes stay as they are.
        """
        self._plan.count_once()

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
        """Yields the batches of the next pass: the first one is epoch 0, or the one that a sampler was told."""
        told = [each.epoch for each in _samplers(self) if isinstance(getattr(each, "epoch", None), int)]
        epoch = told[0] if told else self._next_epoch
        try:
            yield from self.batches(epoch=epoch)
        finally:
            if self._plan.epoch == epoch:  # no other pass has begun since
                self._next_epoch = epoch + 1
                _set_epoch(self, epoch + 1)

    def __len__(self) -> int:
        return len(self._plan)

    def _read(self) -> Iterable[Any]:
        """Returns whatever reads the planned batches: workers, or this process."""
        if self.num_workers or self.pin_memory:
            return self._reader
        # Past torch's iterator, whose entry in a profile takes as long as some samples, and slows what is within.
        return map(self._reader.dataset.__getitem__, self._plan)

    def _build_reader(self, options: dict[str, Any]) -> DataLoader[Any]:
        # A loader of whole batches: this one is what users see, with their data set and sampler.
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
    """Which samples go into which batch of a pass."""

    def __init__(self, loader: SampleLoader, *, limit: int | None) -> None:
        # Not the loader itself: in a cycle, persistent workers are joined only after seconds each.
        self.sampler, self.batch_sampler = loader.sampler, loader.batch_sampler
        self.batch_size, self.drop_last = loader.batch_size or 1, loader.drop_last
        if loader.batch_size is None and type(self.batch_sampler) is BatchSampler:  # one that was given
            self.sampler, self.drop_last = self.batch_sampler.sampler, self.batch_sampler.drop_last
            self.batch_size = self.batch_sampler.batch_size
        self.limit = limit
        self.most: int | None = None
        self.own = [each for each in _samplers(loader) if not is_known(each)]
        self.passes_continue = limit is not None and not self.own and bool(getattr(self.sampler, "endless", False))
        self._before_first = 0  # samples before pass 0, where passes continue and batches were of another size
        self.seed = loader.seed
        self.epoch = 0
        self.start = 0
        self.sample: int | None = None
        self._number = 0
        self._rank, self._world_size = get_rank(), get_world_size()
        self.tail = self._uneven_tail()

    def __iter__(self) -> Iterator[BatchKey]:
        self._number += 1
        # The numbers are bound here, so that passes that overlap do not disturb each other.
        ends = [each for each in (self.limit, self.most) if each is not None]
        warns = bool(self.own) and self.epoch == 0 and self.limit is None
        if self.own and ends and self.start >= min(ends) > 0:
            # The pass is over. Its samplers have still to be gone through, since they may draw for the next one.
            whole = self._keys(self.epoch, 0, None, self._number)
            return islice(self._limited(whole, min(ends), 0, warns=warns), min(ends), None)
        keys = self._keys(self.epoch, self.start, self.sample, self._number)
        if self.tail is not None:
            keys = self._evened(keys, self.tail, self.epoch, self._first)
        return self._limited(keys, min(ends), self.start, warns=warns) if ends else keys

    def _limited(self, keys: Iterator[BatchKey], end: int, start: int, *, warns: bool) -> Iterator[BatchKey]:
        """Ends a pass as its length says, and warns where the samplers go on."""
        yield from islice(keys, max(end - start, 0))
        if warns and next(keys, None) is not None:
            warn_of_length(self.own, end)

    def shares(self) -> Iterator[float]:
        """Yields the share of each batch of the present pass, see `SampleLoader`, and 1 behind the last one."""
        if self.tail is None:
            return repeat(1.0)
        return (self.tail.share(done, self.batch_size) for done in count(self._first, self.batch_size))

    def batches_from(self, sample: int) -> int:
        """Returns how many batches of a pass are left when a rank has had so many of its samples."""
        if self.tail is not None:
            return self.tail.batches_from(sample, self.batch_size, drop_last=self.drop_last)
        sampler: Any = self.sampler
        left = len(sampler) - sample
        return max(left // self.batch_size if self.drop_last else -(-left // self.batch_size), 0)

    def count_once(self) -> None:
        """Has a DefaultSampler repeat no sample."""
        sampler: Any = self.sampler
        if type(sampler) is DefaultSampler:
            sampler.count_once()
            self.tail = self._uneven_tail()

    @property
    def _first(self) -> int:
        """How many of this rank's samples lie before the present pass."""
        return self._samples_before(self.epoch, self.start, self.sample)

    def _samples_before(self, epoch: int, start: int, sample: int | None) -> int:
        """Returns how many of this rank's samples lie before batch `start` of a pass: of all passes, if they continue.

        Args:
            epoch: Which pass it is.
            start: The number of the batch.
            sample: The answer, where earlier batches were of another size.
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
        """Leaves a batch out, or reads a sample once more, where other ranks have a batch less or more."""
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
        """Returns how many samples come before batch `start`, and the indices of the batches from it on."""
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
    """Yields the batches of one pass over a loader from number `start` on.

    Beginning late costs nothing where the loader is a `SampleLoader`; other loaders read what is skipped.

    Args:
        loader: Any iterable of batches.
        epoch: Which pass it is; samplers with `set_epoch` are told.
        start: The number of the first batch.
        sample: How many of this rank's samples lie before it, where earlier batches were of another size: in this pass,
            or in all if `passes_continue`; only a `SampleLoader` can tell.
        most: How many batches the pass has at most, those before `start` included.

    Raises:
        DataError: While iterating: a sample cannot be read, or samples cannot be put into a batch.
    """
    if isinstance(loader, SampleLoader):
        return loader.batches(epoch=epoch, start=start, sample=sample, most=most)
    _set_epoch(loader, epoch)
    found = _skipped(iter(loader), start)
    return found if most is None else islice(found, max(most - start, 0))


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
