"""A batch sampler for datasets with groups, and for samplers of research code.

First-generation detectors group images so that no batch mixes landscape and portrait images.
"""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler

from footplate.data import DefaultSampler, InfiniteSampler
from footplate.errors import DataError
from footplate.registry import DATA_SAMPLERS
from footplate_openmmlab.first_generation.translation.key_map import EQUIVALENT_SAMPLERS

_logger = logging.getLogger("footplate.data")


class GroupBatchSampler(Sampler[list[int]]):
    """Yields batches whose samples belong to one group. `dataset.flag` contains the group of each sample.

    An epoch visits each sample at least once. Samples are repeated until all batches of a group are full and all ranks
    have the same number of batches. With an InfiniteSampler, each rank fills one batch per group, and yields a batch as
    soon as it is full.

    The batches depend only on the sampler's seed, the epoch and the number of ranks.

    Args:
        sampler: The sampler, which provides the dataset, the seed and the epoch.
        batch_size: The number of samples in each batch.

    Raises:
        DataError: `dataset.flag` does not have one entry per sample.
    """

    def __init__(self, sampler: DefaultSampler | InfiniteSampler, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        dataset: Any = sampler.dataset
        self.groups = np.asarray(dataset.flag)  # (N,)
        if len(self.groups) != sampler.size:
            counts = f"{sampler.size} samples, but its `flag` has {len(self.groups)} entries"
            raise DataError(f"the dataset '{type(dataset).__name__}' has {counts}")

    def iterate_from(self, start: int) -> Iterator[list[int]]:
        """Yields this rank's batches of sample indices in the epoch, starting with batch `start`."""
        batches = self._collected() if self.sampler.endless else self._epoch()
        return islice(batches, start, None)

    def __iter__(self) -> Iterator[list[int]]:
        return self.iterate_from(0)

    def __len__(self) -> int:
        if self.sampler.endless:
            return -(-len(self.sampler) // self.batch_size)
        _, sizes = np.unique(self.groups, return_counts=True)
        return sum(-(-int(size) // (self.batch_size * self.sampler.world_size)) for size in sizes)

    def _epoch(self) -> Iterator[list[int]]:
        sampler: Any = self.sampler
        generator = torch.Generator().manual_seed(sampler.seed + sampler.epoch)
        step = self.batch_size * sampler.world_size
        batches = []
        for group in np.unique(self.groups):
            members = np.flatnonzero(self.groups == group)
            order = members[torch.randperm(len(members), generator=generator).numpy()]
            batches.append(np.resize(order, (-(-len(order) // step) * sampler.world_size, self.batch_size)))
        joined = np.concatenate(batches)  # (number of batches, batch size)
        for number in torch.randperm(len(joined), generator=generator)[sampler.rank :: sampler.world_size]:
            yield joined[number].tolist()

    def _collected(self) -> Iterator[list[int]]:
        batches: dict[Any, list[int]] = {group: [] for group in self.groups.tolist()}
        for index in self.sampler:
            batch = batches[self.groups[index].item()]
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch.copy()
                batch.clear()


@DATA_SAMPLERS.register_module("LegacyBatchSampler")
def batch_by_group(
    sampler: Any,
    batch_size: int,
    drop_last: bool = False,
    own: Mapping[str, Any] | None = None,
    evaluates: bool = False,
) -> Any:
    """Returns a `GroupBatchSampler` if the dataset has groups, and otherwise a plain batch sampler.

    Args:
        sampler: The dataset's sampler. The dataset has groups if its `flag` attribute is not empty.
        batch_size: The number of samples in each batch.
        drop_last: Whether to drop an incomplete last batch. Batches of groups are always complete.
        own: The config of a sampler that replaces `sampler`, whose class may accept the arguments `dataset`,
            `samples_per_gpu`, `num_replicas`, `rank`, `seed` and `shuffle`. It yields indices or whole batches.
        evaluates: Whether the loader is one of validation or tests. Several processes then read the samples of
            `sampler`, because the engine puts the results in dataset order.
    """
    if evaluates and own is not None:
        if sampler.world_size > 1:
            _logger.warning(
                "data.nonshuffler_sampler (%s) is not used with %d processes: process r reads the samples r, r + %d, "
                "... of the dataset. If the model has a memory of earlier frames, validate it with one process.",
                own.get("type"),
                sampler.world_size,
                sampler.world_size,
            )
        if sampler.world_size > 1 or own.get("type") in EQUIVALENT_SAMPLERS:
            return BatchSampler(sampler, batch_size, drop_last)
    if own is not None:
        replacement = _build_own(own, sampler, batch_size)
        # A second instance shows what it yields, because samplers may change while they are read.
        yields_batches = isinstance(next(iter(_build_own(own, sampler, batch_size)), None), Sequence | np.ndarray)
        return replacement if yields_batches else BatchSampler(replacement, batch_size, drop_last)
    flag = getattr(sampler.dataset, "flag", None)
    if flag is None or len(flag) == 0:
        return BatchSampler(sampler, batch_size, drop_last)
    return GroupBatchSampler(sampler, batch_size)


def _build_own(cfg: Mapping[str, Any], sampler: Any, batch_size: int) -> Any:
    arguments = {
        "dataset": sampler.dataset,
        "samples_per_gpu": batch_size,
        "num_replicas": sampler.world_size,
        "rank": sampler.rank,
        "seed": sampler.seed,
        "shuffle": sampler.shuffle,
    }
    accepted = inspect.signature(DATA_SAMPLERS.resolve(cfg.get("type"), cfg)).parameters
    return DATA_SAMPLERS.build(cfg, **{name: value for name, value in arguments.items() if name in accepted})
