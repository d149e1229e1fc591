"""Samplers whose order is determined by seed and epoch."""

import os
from collections.abc import Iterator, Sized

import torch
from torch.utils.data import Sampler

from footplate.distributed import broadcast_object, get_rank, get_world_size
from footplate.errors import DataError
from footplate.registry import DATA_SAMPLERS

_PIECE = 4096


@DATA_SAMPLERS.register_module()
class DefaultSampler(Sampler[int]):
    """Visits every sample once per epoch; rank r of n takes the positions r, r + n, r + 2n ... of the global order.

    The global order depends only on seed and epoch, not on the number of ranks.

    Args:
        dataset: The dataset; only its length is used.
        shuffle: Whether to shuffle the samples in each epoch.
        seed: The seed of the order; None draws a random seed that all ranks share.
        round_up: Whether to repeat the first samples at the end, so that every rank has the same number of samples. If
            False, each sample is visited exactly once. A `SampleLoader` still gives every rank the same number of
            batches.

    Raises:
        DataError: The dataset is empty.

    Example:
        >>> list(DefaultSampler(range(4), shuffle=False))
        [0, 1, 2, 3]
    """

    endless = False

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        self.rank, self.world_size = get_rank(), get_world_size()
        self.size = _length(dataset)
        self.shuffle = shuffle
        self.seed = _common_seed() if seed is None else seed
        self.round_up = round_up
        self.epoch = 0
        whole = -(-self.size // self.world_size) * self.world_size
        self.total_size = whole if round_up else self.size

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which determines the order of the next pass."""
        self.epoch = epoch

    def count_once(self) -> None:
        """Disables padding, as with `round_up=False`."""
        self.round_up, self.total_size = False, self.size

    def at(self, position: int, epoch: int) -> int:
        """Returns the sample at a position of the global order of an epoch; positions after the end wrap around."""
        place = position % self.size
        return int(_permutation(self.size, self.seed + epoch)[place]) if self.shuffle else place

    def iterate_from(self, start: int) -> Iterator[int]:
        """Yields this rank's samples of the epoch from index `start` on; skipping samples costs nothing."""
        positions = range(self.rank + start * self.world_size, self.total_size, self.world_size)
        order = _permutation(self.size, self.seed + self.epoch) if self.shuffle else range(self.size)
        yield from _numbers(order[positions.start : self.size : self.world_size])
        for beyond in (each for each in positions[-1:] if each >= self.size):  # at most one per rank
            yield int(order[beyond % self.size])

    def __iter__(self) -> Iterator[int]:
        return self.iterate_from(0)

    def __len__(self) -> int:
        return len(range(self.rank, self.total_size, self.world_size))


@DATA_SAMPLERS.register_module()
class InfiniteSampler(Sampler[int]):
    """Visits the samples in endless passes; ranks share one global order as in DefaultSampler.

    Args:
        dataset: The dataset; only its length is used.
        shuffle: Whether to shuffle the samples in each pass.
        seed: The seed of the order; None draws a random seed that all ranks share.

    Raises:
        DataError: The dataset is empty.
    """

    endless = True

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        self.rank, self.world_size = get_rank(), get_world_size()
        self.size = _length(dataset)
        self.shuffle = shuffle
        self.seed = _common_seed() if seed is None else seed

    def set_epoch(self, epoch: int) -> None:
        """Does nothing, because the order does not depend on epochs."""

    def iterate_from(self, start: int) -> Iterator[int]:
        """Yields this rank's samples endlessly from index `start` on; skipping samples costs nothing."""
        position = self.rank + start * self.world_size
        while True:
            number, offset = divmod(position, self.size)
            order = _permutation(self.size, self.seed + number) if self.shuffle else range(self.size)
            chosen = order[offset :: self.world_size]
            yield from _numbers(chosen)
            position += len(chosen) * self.world_size

    def __iter__(self) -> Iterator[int]:
        return self.iterate_from(0)

    def __len__(self) -> int:
        """Returns the number of samples of this rank in one pass, rounded up."""
        return -(-self.size // self.world_size)


def _permutation(size: int, seed: int) -> torch.Tensor:
    kind = torch.int32 if size < 2**31 else torch.int64  # the same order in half the memory
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed), dtype=kind)


def _numbers(chosen: torch.Tensor | range) -> Iterator[int]:
    if isinstance(chosen, range):
        yield from chosen
        return
    # In pieces, because a list of Python integers takes five times the memory of the tensor.
    for at in range(0, len(chosen), _PIECE):
        yield from chosen[at : at + _PIECE].tolist()


def _length(dataset: Sized) -> int:
    size = len(dataset)
    if size == 0:
        raise DataError(f"the dataset '{type(dataset).__name__}' is empty")
    return size


def _common_seed() -> int:
    # Drawn from the system, so that the global generators of the run are not changed.
    return broadcast_object(int.from_bytes(os.urandom(4), "little"))
