"""Samplers whose order depends only on seed and epoch, and support for resuming other samplers."""

import copy
import hashlib
import os
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from itertools import chain, cycle, islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, Sampler, SequentialSampler
from torch.utils.data.sampler import SubsetRandomSampler, WeightedRandomSampler

from footplate.checks import check_count
from footplate.data.loader_attributes import dataset_of
from footplate.distributed import broadcast_object, compare_with_main, get_rank, get_world_size
from footplate.errors import DataError
from footplate.registry import DATA_SAMPLERS

_CHUNK = 4096  # indices to convert at a time; Python integers take five times the memory of a tensor
_RANK_NAMES = ("rank", "num_replicas", "distributed_env")  # LitData uses the last one


class _SeededSampler(Sampler[int]):
    """A sampler whose global order depends on a seed, and which splits the samples across ranks.

    Args:
        dataset: The dataset. Only its length is used.
        shuffle: Whether to shuffle the samples in each pass.
        seed: The seed for shuffling. Defaults to the run's seed in a config, and otherwise to a random seed that all
            ranks share.

    Raises:
        DataError: The dataset is empty.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.rank = get_rank()
        self.world_size = get_world_size()
        self.dataset = dataset
        if self.size == 0:
            raise DataError(f"the dataset '{type(dataset).__name__}' is empty")
        self.shuffle = shuffle
        if seed is None:  # from the operating system, so that the run's global generators do not change
            seed = broadcast_object(int.from_bytes(os.urandom(4), "little"))
        self.seed = seed

    @property
    def size(self) -> int:
        """The number of samples, which may change between two passes."""
        return len(self.dataset)

    def iterate_from(self, start: int) -> Iterator[int]:
        """Yields the indices of this rank's samples, except the first `start`. Skipping takes no time."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return self.iterate_from(0)

    def _order(self, epoch: int) -> torch.Tensor | range:
        """Returns the global order of all samples in an epoch."""
        if not self.shuffle:
            return range(self.size)
        generator = torch.Generator().manual_seed(self.seed + epoch)
        dtype = torch.int32 if self.size < 2**31 else torch.int64  # the same order in half the memory
        return torch.randperm(self.size, generator=generator, dtype=dtype)


@DATA_SAMPLERS.register_module()
class DefaultSampler(_SeededSampler):
    """Visits each sample once per epoch. Rank r of n reads the positions r, r + n, r + 2n, ... of the global order.

    The global order depends only on seed and epoch, not on the number of ranks.

    For the arguments that are not listed here, see `_SeededSampler`.

    Args:
        round_up: Whether to repeat the first samples at the end, so that all ranks have the same number of samples. If
            False, each sample is visited exactly once; a `SampleLoader` still gives all ranks the same number of
            batches.

    Example:
        >>> list(DefaultSampler(range(4), shuffle=False))
        [0, 1, 2, 3]
    """

    endless = False

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle, seed)
        self.round_up = round_up
        self.epoch = 0
        # MMEngine's names, which samplers of users read and set.
        self.num_samples = DefaultSampler.__len__(self)
        self.total_size = self._padded_size if round_up else self.size

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch that determines the order of the next pass."""
        self.epoch = epoch

    def iterate_from(self, start: int) -> Iterator[int]:
        """Yields the indices of this rank's samples in the epoch, except the first `start`. Skipping takes no time.

        All ranks yield the same number of samples, even if `round_up` is False.
        """
        positions = range(self.rank + start * self.world_size, self._padded_size, self.world_size)
        order = self._order(self.epoch)
        # At most one position per rank is past the end.
        padding = [int(order[last % self.size]) for last in positions[-1:] if last >= self.size]
        return chain(_iterate(order[positions.start : self.size : self.world_size]), padding)

    def __iter__(self) -> Iterator[int]:
        return islice(self.iterate_from(0), len(self))

    def __len__(self) -> int:
        return len(range(self.rank, self._padded_size if self.round_up else self.size, self.world_size))

    @property
    def _padded_size(self) -> int:
        return -(-self.size // self.world_size) * self.world_size


@DATA_SAMPLERS.register_module()
class InfiniteSampler(_SeededSampler):
    """Repeats the samples endlessly, by default in a new order each time. All ranks share one global order."""

    endless = True
    _first = 0

    def set_epoch(self, epoch: int) -> None:
        """Does nothing, because the order does not depend on the epoch."""

    def skip(self, num_samples: int) -> None:
        """Makes iterations begin after this rank's first `num_samples` samples. A run does not need it to resume."""
        self._first = check_count("num_samples", num_samples, least=0)

    def __iter__(self) -> Iterator[int]:
        return self.iterate_from(self._first)

    def iterate_from(self, start: int) -> Iterator[int]:
        """Yields the indices of this rank's samples endlessly, except the first `start`. Skipping takes no time."""
        return chain.from_iterable(self._passes(self.rank + start * self.world_size))

    def _passes(self, position: int) -> Iterator[Iterator[int]]:
        while True:
            number, offset = divmod(position, self.size)
            indices = self._order(number)[offset :: self.world_size]
            yield _iterate(indices)
            position += len(indices) * self.world_size

    def __len__(self) -> int:
        """Returns this rank's number of samples per pass, rounded up."""
        return -(-self.size // self.world_size)


class RankSampler(Sampler[Any]):
    """Splits another sampler or batch sampler across n ranks: each rank yields every n-th entry.

    The wrapped sampler must yield the same entries on all ranks. The first pass compares its length and first entries.
    If the number of entries is not divisible by n, the first entries are repeated, so that all ranks have the same
    number.

    Args:
        sampler: The sampler or batch sampler.
    """

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.rank = get_rank()
        self.world_size = get_world_size()
        self.endless = getattr(sampler, "endless", False)
        self._is_checked = False

    def __iter__(self) -> Iterator[Any]:
        entries = iter(self.sampler)
        first: list[Any] = []
        if not self._is_checked:
            beginning = list(islice(entries, _CHUNK))
            self._check_same(beginning)
            entries = chain(beginning, entries)
        while row := list(islice(entries, self.world_size)):
            first = first or row
            yield [*row, *islice(cycle(first), self.world_size - len(row))][self.rank]

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.world_size)

    def _check_same(self, beginning: list[Any]) -> None:
        """Checks that the wrapped sampler has the same length and the same first entries on all ranks.

        Raises:
            RankError: The samplers differ, so samples would be lost. All ranks raise this error.
        """
        self._is_checked = True
        length = len(self.sampler) if hasattr(self.sampler, "__len__") else "unknown"
        digest = hashlib.sha256(repr(beginning).encode()).hexdigest()[:8]
        name = type(self.sampler).__name__
        compare_with_main(
            [f"length {length}, digest of the first samples {digest}"],
            f"the sampler '{name}' yields different samples in some processes, so samples would be lost: %s",
            "Use the same seed in all processes. If the sampler divides the samples among them, set its `rank`.",
        )


RANDOM_SAMPLERS = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_DETERMINISTIC = (BatchSampler, SequentialSampler, DistributedSampler, RankSampler)


def samplers_of(loader: object) -> list[Any]:
    """Returns the samplers and batch samplers of a loader, including wrapped ones."""
    samplers: dict[int, Any] = {}
    for sampler in (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)):
        while hasattr(sampler, "__iter__") and id(sampler) not in samplers:
            samplers[id(sampler)] = sampler
            sampler = getattr(sampler, "sampler", None)
    return list(samplers.values())


def set_epoch(samplers: Iterable[Any], epoch: int) -> None:
    """Calls `set_epoch` on all samplers that have this method and implement it.

    Called at the start of each pass, by `BatchPlan.begin` or, for loaders without a plan, by `batches`.
    """
    for sampler in samplers:
        if hasattr(sampler, "set_epoch"):
            with suppress(NotImplementedError):  # endless samplers of MMDetection 2.x have no epochs
                sampler.set_epoch(epoch)


def knows_ranks(loader: Any) -> bool:
    """Checks whether a loader, its dataset or its sampler appears to handle ranks, based on attribute names."""
    parts = (loader, dataset_of(loader), *samplers_of(loader))
    return any(hasattr(part, name) for part in parts for name in _RANK_NAMES)


def _iterate(indices: torch.Tensor | range) -> Iterator[int]:
    """Returns an iterator over indices as Python integers."""
    if isinstance(indices, range):
        return iter(indices)
    return chain.from_iterable(chunk.tolist() for chunk in indices.split(_CHUNK))  # type: ignore[no-untyped-call]


def can_start_anywhere(sampler: Any) -> bool:
    """Checks whether a sampler can start at any index with `iterate_from`.

    Returns False if a subclass overrides `__iter__` but not `iterate_from`, because the two methods may then yield
    different samples.
    """
    bases = type(sampler).__mro__
    iter_owner = next((base for base in bases if "__iter__" in vars(base)), object)
    iterate_from_owner = next((base for base in bases if "iterate_from" in vars(base)), object)
    return iter_owner is not object and issubclass(iterate_from_owner, iter_owner)


def is_custom(sampler: Any) -> bool:
    """Checks whether a sampler's order may depend on more than seed and epoch, or its length may be wrong.

    A BatchPlan distinguishes the following kinds of samplers and batch samplers. To start a pass at a later batch, it
    draws and drops the indices of earlier batches if the sampler cannot start anywhere. If the sampler is custom, it
    also replays earlier passes.

    | sampler | can start anywhere | custom | order depends on |
    |---|---|---|---|
    | DefaultSampler, InfiniteSampler, and other classes with `iterate_from` | yes | no | its seed and the epoch |
    | the classes in `_DETERMINISTIC` | no | no | the epoch at most, or a wrapped sampler |
    | the classes in `RANDOM_SAMPLERS` | no | no | random numbers that the plan seeds for each pass |
    | all other classes, and those that override only `__iter__` of the first row | no | yes | anything |
    """
    return not can_start_anywhere(sampler) and type(sampler) not in (*RANDOM_SAMPLERS, *_DETERMINISTIC)


def content_of(sampler: Any) -> dict[str, Any]:
    """Returns copies of the weights or indices of one of torch's random samplers, which hooks may change."""
    names = ("weights", "indices") if type(sampler) in RANDOM_SAMPLERS else ()
    return {name: copy.deepcopy(vars(sampler)[name]) for name in names if name in vars(sampler)}


def generators_of(samplers: Iterable[Any]) -> list[torch.Generator]:
    """Returns the generators that were passed to torch's random samplers."""
    random = (sampler for sampler in samplers if type(sampler) in RANDOM_SAMPLERS)
    return [sampler.generator for sampler in random if sampler.generator is not None]
