"""Plans the batches of a pass over the data.

A pass can start at any batch and has the same length on every rank.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import count, islice, repeat
from typing import Any, NamedTuple

import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, Sampler

from footplate.data.rng import SamplerGenerators, mix_seed
from footplate.data.samplers import DefaultSampler, RankSampler, can_start_anywhere, is_custom, samplers_of, set_epoch
from footplate.distributed import get_data_rank, get_data_world_size, local_sample_count

_logger = logging.getLogger("footplate.data")


class BatchKey(NamedTuple):
    """The samples of a batch and their positions in the global order."""

    epoch: int
    positions: range
    indices: Sequence[Any]
    is_single: bool = False  # a single sample that is not put in a list


class UnevenSplit(NamedTuple):
    """The distribution of samples or batches over n ranks if their number is not divisible by n.

    Each rank takes every n-th one.

    Attributes:
        size: The number of samples, or of the batches of a custom batch sampler.
        rank: The rank whose samples are counted.
        world_size: The number of ranks.

    Example:
        >>> [UnevenSplit(5, rank, 2).share(done=2, batch_size=2) for rank in range(2)]
        [2.0, 0.0]
    """

    size: int
    rank: int
    world_size: int

    @property
    def local_size(self) -> int:
        """The number of samples on this rank."""
        return local_sample_count(self.size, self.rank, self.world_size)

    def batches_from(self, done: int, batch_size: int, *, drop_last: bool) -> int:
        """Returns the number of batches left after each rank has read `done` samples. It is the same on all ranks.

        With `drop_last`, only batches that are full on every rank are counted. Otherwise, a batch counts if any rank
        has a sample for it.
        """
        if drop_last:
            return max((self.size // self.world_size - done) // batch_size, 0)
        most = -(-self.size // self.world_size)
        return max(-((done - most) // batch_size), 0)

    def share(self, done: int, batch_size: int) -> float:
        """Returns the size of this rank's batch after `done` samples, divided by the mean batch size over all ranks."""
        end = done + batch_size
        total = min(end * self.world_size, self.size) - min(done * self.world_size, self.size)
        local = max(min(end, self.local_size) - done, 0)
        return local * self.world_size / total if total else 1.0


class BatchPlan(Sampler[BatchKey]):
    """Yields the samples of each batch in a pass over the data.

    Args:
        loader: The loader whose samplers and batch size are used. The plan does not store the loader, because a
            reference cycle would delay joining each persistent worker by seconds.
        seed: The seed for samplers that draw random numbers.
        limit: The maximum number of batches per pass.

    Attributes:
        most: The maximum number of batches in the current pass, including those skipped at its start.
        split: The distribution of samples over the ranks, or None if their numbers of samples are equal or unknown.
        counts_once: Whether each sample is read exactly once, apart from batches with a `share` of 0.
        passes_continue: Whether `limit` splits an endless sampler, so that each pass continues the previous one.
    """

    def __init__(self, loader: DataLoader[Any], *, seed: int, limit: int | None) -> None:
        self.sampler: Any = loader.sampler
        self.batch_sampler = loader.batch_sampler
        self.batch_size, self.drop_last = loader.batch_size or 1, loader.drop_last
        if loader.batch_size is None and type(self.batch_sampler) is BatchSampler:  # passed by the user
            self.sampler, self.drop_last = self.batch_sampler.sampler, self.batch_sampler.drop_last
            self.batch_size = self.batch_sampler.batch_size
        self.samplers = samplers_of(loader)
        self.custom = [each for each in self.samplers if is_custom(each)]
        self._unseeded = [each for each in self.samplers if getattr(each, "generator", self) is None]
        self.seed, self.limit = seed, limit
        self.most: int | None = None
        self.passes_continue = limit is not None and not self.custom and bool(getattr(self.sampler, "endless", False))
        self._rank, self._world_size = get_data_rank(), get_data_world_size()
        self._has_own_batches = self.batch_sampler is not None and type(self.batch_sampler) is not BatchSampler
        self.split: UnevenSplit | None = None
        self.counts_once = False
        if getattr(self.sampler, "round_up", True) is False:
            self.count_once()
        self._before_first = 0  # samples before pass 0, if passes continue and the batch size has changed
        self.seek(0)

    def begin(self, epoch: int, start: int = 0, sample: int | None = None) -> "BatchPlan":
        """Prepares the samplers for a pass. Returns the plan itself."""
        set_epoch(self.samplers, epoch)
        for sampler in self._unseeded:
            sampler.generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
        return self.seek(epoch, start, sample)

    def seek(self, epoch: int, start: int = 0, sample: int | None = None) -> "BatchPlan":
        """Sets the start of the next pass. Returns the plan itself.

        Args:
            epoch: The index of the pass.
            start: The index of its first batch.
            sample: The number of this rank's samples before this batch, if earlier batches had a different size.
                Samples are counted from the start of the pass, or from the start of the first pass if
                `passes_continue`.
        """
        self.epoch, self.start = epoch, start
        if self.passes_continue:
            done = (epoch * (self.limit or 0) + start) * self.batch_size
            if sample is not None:
                self._before_first = sample - done
            self._samples_before = self._before_first + done
        else:
            self._samples_before = start * self.batch_size if sample is None else sample
        return self

    def __iter__(self) -> Iterator[BatchKey]:
        # The settings are bound here, so that overlapping passes do not affect each other.
        end = min((each for each in (self.limit, self.most) if each is not None), default=None)
        if end is None:
            return self._keys(self.epoch, self.start, self._samples_before)
        warns = bool(self.custom) and self.epoch == 0 and self.limit is None
        if self.custom and self.start >= end > 0:
            # The pass is over, but its samplers must be iterated, since they may draw random numbers for the next one.
            return islice(self._cut(self._keys(self.epoch, 0, 0), end, warns=warns), end, None)
        keys = self._keys(self.epoch, self.start, self._samples_before)
        return self._cut(keys, max(end - self.start, 0), warns=warns)

    def __len__(self) -> int:
        if self.passes_continue and self.limit is not None:
            return self.limit
        if self.split is not None:
            length = self.batches_from(0)
        else:
            length = len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]
        return length if self.limit is None else min(length, self.limit)

    def shares(self) -> Iterator[float]:
        """Yields the `share` of each batch of the current pass (see `SampleLoader`), and 1 after the last batch."""
        if self.split is None:
            return repeat(1.0)
        return (self.split.share(done, self.batch_size) for done in count(self._samples_before, self.batch_size))

    def batches_from(self, sample: int) -> int:
        """Returns the number of remaining batches of a pass after each rank has read `sample` of its samples."""
        split = self.split or UnevenSplit(len(self.sampler), 0, 1)
        return split.batches_from(sample, self.batch_size, drop_last=self.drop_last)

    def count_once(self) -> None:
        """Removes the samples and batches that a sampler repeats, if its kind is known.

        A rank that has no other samples left still repeats one, so that all ranks have the same number of batches.
        """
        sampler = self.batch_sampler if self._has_own_batches else self.sampler
        if isinstance(sampler, DefaultSampler) and can_start_anywhere(sampler):
            size = sampler.size
        elif isinstance(sampler, RankSampler):
            size = len(sampler.sampler)
        elif isinstance(sampler, DistributedSampler):
            size = min(len(sampler.dataset), sampler.total_size)  # type: ignore[arg-type]
        else:
            return
        self.counts_once = True
        self.split = UnevenSplit(size, self._rank, self._world_size) if size % self._world_size else None

    def _keys(self, epoch: int, start: int, first: int) -> Iterator[BatchKey]:
        """Yields the batch keys of a pass from batch `start` on. Their number is the same on all ranks.

        `first` is the number of this rank's samples before batch `start`.
        """
        if self.custom:
            generators = SamplerGenerators(mix_seed(self.seed, epoch))
            with generators.activate():
                done, batches = self._indices(start, first)
            batches = generators.wrap(batches)
        else:
            done, batches = self._indices(start, first)
        is_single = self.batch_sampler is None
        left = None
        if self.split is not None:
            left = self.split.batches_from(first, self.batch_size, drop_last=self.drop_last)
        for entries, indices in zip(count(first, self.batch_size), islice(batches, left)):
            if self.split is not None and not self._has_own_batches:
                indices = indices[: max(self.split.local_size - entries, 1)]
            end = done + len(indices)
            positions = range(
                self._rank + done * self._world_size, self._rank + end * self._world_size, self._world_size
            )
            yield BatchKey(epoch, positions, indices, is_single)
            done = end

    def _indices(self, start: int, first: int) -> tuple[int, Iterator[Sequence[Any]]]:
        """Returns the number of samples before batch `start`, and an iterator over the indices of each later batch."""
        if self._has_own_batches:
            batches: Iterator[Sequence[Any]] = iter(self.batch_sampler)  # type: ignore[arg-type]
            return sum(len(skipped) for skipped in islice(batches, start)), batches
        starts_anywhere = can_start_anywhere(self.sampler)
        indices = self.sampler.iterate_from(first) if starts_anywhere else islice(iter(self.sampler), first, None)
        return first, self._group(indices)

    def _group(self, indices: Iterator[Any]) -> Iterator[list[Any]]:
        """Yields the indices of each batch."""
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def _cut(self, keys: Iterator[BatchKey], most: int, *, warns: bool) -> Iterator[BatchKey]:
        """Ends a pass after `most` batches, and warns if the samplers yield more."""
        yield from islice(keys, most)
        if warns and next(keys, None) is not None:
            names = ", ".join(type(each).__name__ for each in self.custom)
            _logger.warning(
                "%s yields more samples than its length specifies. Each epoch ends after %d batches.", names, self.most
            )
