"""A dataloader whose batches are determined by seed, epoch and batch index."""

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from footplate.data.batch_plan import BatchPlan, samplers_of, set_epoch
from footplate.data.batch_reader import BatchReader, ReadFailure
from footplate.data.rng import mix_seed, preserve_random_state
from footplate.data.samplers import CustomSamplers, DefaultSampler
from footplate.data.workers import MonitoredLoader, WorkerInit, WorkerProgress, iterate_interruptibly
from footplate.errors import DataError

_IN_USE = 2  # batches per worker in the main process: one being trained on, and one that a hook may keep for a while


def length_of(loader: Any) -> int | None:
    """Returns the length of a loader or dataset, or None if it is unknown, as it is for streams."""
    try:
        return len(loader)
    except TypeError:  # a torch DataLoader always has `__len__`, which raises for streams
        return None


class SampleLoader(DataLoader[Any]):
    """A DataLoader that can start a pass at any batch, and whose batches do not depend on earlier reads.

    Each sample is read with a random state that is determined by seed, epoch and the sample's position in the global
    order; see `BatchReader`. Samples therefore depend neither on the number of workers nor on whether the run was
    resumed. Iteration does not change the global random generators. Each `for batch in loader` iterates over the next
    epoch. To choose an epoch, call `batches` or the sampler's `set_epoch`.

    Args:
        dataset: A map-style dataset.
        seed: The seed for sample order and augmentation.
        batch_size: The number of samples per batch. With None, individual samples are yielded instead of batches.
        shuffle: Whether the default sampler shuffles the samples. None means False, as in torch.
        sampler: Yields indices; a DefaultSampler by default. If its `round_up` is False, a rank without samples for
            the last batch reads one sample again, so that all ranks have the same number of batches; see `share`.
        batch_sampler: Yields lists of indices; replaces batch_size, shuffle, sampler and drop_last.
        drop_last: Whether to drop an incomplete last batch.
        num_batch_per_epoch: The maximum number of batches per pass. With an endless sampler, each pass continues where
            the previous one ended.
        options: Additional arguments for torch's DataLoader.

    Attributes:
        share: The weight of the mean loss of the latest batch, so that the mean over ranks equals the mean over
            samples. It is 1 for all batches except an uneven last one. For that batch, it is the number of samples of
            this rank divided by the mean over all ranks, and 0 if this rank has no samples left.

    Raises:
        DataError: During iteration, a sample cannot be read or samples cannot be collated.
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
        self._plan = BatchPlan(self, seed=seed, limit=num_batch_per_epoch)
        self.custom_samplers = CustomSamplers(self._plan.custom)
        self.worker_progress = WorkerProgress(self.num_workers) if self.num_workers else None
        reader = BatchReader(
            self.dataset,
            collate=self.collate_fn,
            seed=self.seed,
            progress=self.worker_progress,
            reused_blocks=0 if self.pin_memory else (self.prefetch_factor or 0) + _IN_USE,
        )
        if self.worker_progress is not None:
            options["worker_init_fn"] = WorkerInit(options.get("worker_init_fn"), self.worker_progress)
        generator = torch.Generator().manual_seed(mix_seed(self.seed))
        options |= {"collate_fn": _identity, "generator": generator}
        # A second loader reads whole batches, so that this loader's `dataset` and `sampler` are those of the user.
        self._reader = MonitoredLoader(reader, batch_size=None, sampler=self._plan, **options)
        self._next_epoch = 0
        self.share = 1.0

    @property
    def uneven(self) -> bool:
        """Whether the last batches of a pass may differ in size between ranks."""
        return self._plan.split is not None

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
        """Whether a pass never ends."""
        ends = self.is_limited or bool(self.custom_samplers)
        return not ends and any(getattr(each, "endless", False) for each in self._plan.samplers)

    def batches(
        self, *, epoch: int = 0, start: int = 0, sample: int | None = None, most: int | None = None
    ) -> Iterator[Any]:
        """Yields the batches of one pass, starting with batch `start`; see the function `batches`."""
        self._plan.most = most
        self.custom_samplers.begin(epoch, self._plan.begin)
        self._plan.begin(epoch, start, sample)
        shares = self._plan.shares()
        if self.num_workers or self.pin_memory:
            read: Iterable[Any] = self._reader
        else:
            # Bypasses torch's iterator, whose profiler entry takes as long as some samples and slows down their reads.
            read = map(self._reader.dataset.__getitem__, self._plan)
        for batch in read:
            self.share = next(shares)
            if type(batch) is ReadFailure:
                batch.throw()
            yield batch
            del batch  # freed before the next one is requested, which wakes other processes: decision 025

    def batches_from(self, sample: int) -> int:
        """Returns the number of remaining batches of a pass after each rank has read `sample` of its samples."""
        return self._plan.batches_from(sample)

    def count_once(self) -> None:
        """Disables padding, so that each sample is read exactly once, as by a DefaultSampler with `round_up=False`.

        Other samplers are not changed.
        """
        self._plan.count_once()

    def peek(self) -> Any:
        """Reads the first batch in this process and returns it, or None if there are no batches."""
        key = next(iter(self._plan.seek(0)), None)
        batch = None if key is None else self._reader.dataset[key]
        if type(batch) is ReadFailure:
            batch.throw()
        return batch

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yields the batches of the next epoch. The first epoch is the one set on a sampler, or 0 if none is set."""
        epochs = (getattr(each, "epoch", None) for each in self._plan.samplers)
        epoch = next((each for each in epochs if isinstance(each, int)), self._next_epoch)
        try:
            yield from self.batches(epoch=epoch)
        finally:
            if self._plan.epoch == epoch:  # no other pass has started since
                self._next_epoch = epoch + 1
                set_epoch(self._plan.samplers, epoch + 1)

    def __len__(self) -> int:
        return len(self._plan)


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
        DataError: During iteration, a sample cannot be read or samples cannot be collated.
    """
    if isinstance(loader, SampleLoader):
        return loader.batches(epoch=epoch, start=start, sample=sample, most=most)
    set_epoch(samplers_of(loader), epoch)
    iterator = iter(loader)
    if isinstance(iterator, _MultiProcessingDataLoaderIter):
        iterator = iterate_interruptibly(iterator)
    found = _skip(iterator, start)
    return found if most is None else islice(found, max(most - start, 0))


def endless_batches(loader: Iterable[Any], *, start: int = 0, sample: int | None = None) -> Iterator[Any]:
    """Yields batches endlessly, one pass after another.

    Args:
        loader: Any iterable of batches.
        start: The index of the first batch, counted over all passes.
        sample: The number of this rank's samples before the first batch in its pass; see `batches`.

    Raises:
        DataError: During iteration, a sample cannot be read, samples cannot be collated, or a pass has no batches.
    """
    if isinstance(loader, SampleLoader) and loader.endless:
        return loader.batches(start=start, sample=sample)
    length = length_of(loader)
    if length is None:
        return _skip(_passes(loader, 0, 0), start)
    return _passes(loader, *divmod(start, length or 1), sample)


def _passes(loader: Iterable[Any], first: int, start: int, sample: int | None = None) -> Iterator[Any]:
    for epoch in count(first):
        empty = True
        for batch in batches(loader, epoch=epoch, start=start, sample=sample):
            empty = False
            yield batch
            del batch
        if empty:
            raise DataError("the data loader has no batches")
        start, sample = 0, None


def _skip(iterator: Iterator[Any], number: int) -> Iterator[Any]:
    if number:
        with preserve_random_state():
            for _ in islice(iterator, number):
                pass
    return iterator


def _identity(batch: Any) -> Any:
    return batch
