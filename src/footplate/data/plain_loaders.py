"""Converts a torch DataLoader that a script passes, so that each rank reads its share and runs resume exactly."""

from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)

from footplate.data.dataloader_checks import WORKER_SETTINGS, check_ranks, check_yields_batches
from footplate.data.loader import SampleLoader
from footplate.data.samplers import DefaultSampler, RankSampler, knows_ranks
from footplate.distributed import broadcast_object, get_world_size
from footplate.errors import ArgumentError

_READING = ("__iter__", "__len__", "_get_iterator", "state_dict")


def convert_loader(loader: Any, seed: int) -> Any:
    """Converts a plain DataLoader to a `SampleLoader` for this rank. Other loaders are returned unchanged.

    A subclass is plain if it inherits everything in `_READING` and adds no public names, like the one of MONAI.
    """
    check_yields_batches(loader)
    cls = type(loader)
    is_plain = all(getattr(cls, name, None) is getattr(DataLoader, name, None) for name in _READING)
    is_plain = is_plain and all(name.startswith("_") for name in {*dir(cls)} - {*dir(DataLoader)})
    if not is_plain or isinstance(loader.dataset, IterableDataset):
        return check_ranks(loader)
    settings = {name: getattr(loader, name) for name in ("collate_fn", "num_workers", "pin_memory", *WORKER_SETTINGS)}
    batching: Any = loader if loader.batch_sampler is None else loader.batch_sampler
    if batching is loader or type(batching) is BatchSampler:  # which the user may have passed
        sampler = _convert_sampler(loader, batching.sampler, seed)
        settings |= {"batch_size": batching.batch_size, "drop_last": batching.drop_last, "sampler": sampler}
    else:
        settings["batch_sampler"] = _convert_sampler(loader, batching, seed)
    return SampleLoader(loader.dataset, seed=seed, seeds_samples=False, **settings)


def _convert_sampler(loader: Any, sampler: Any, seed: int) -> Any:
    """Converts torch's default samplers to DefaultSampler, and splits other samplers across the ranks."""
    cls = type(sampler)
    is_random = cls is RandomSampler and not sampler.replacement and sampler.num_samples == len(loader.dataset)
    if (is_random or cls is SequentialSampler) and sampler.data_source is loader.dataset:
        if is_random and sampler.generator is not None:
            seed = broadcast_object(sampler.generator.initial_seed() % 2**32)
        return DefaultSampler(sampler.data_source, shuffle=is_random, seed=seed)
    size = get_world_size()
    if isinstance(sampler, DistributedSampler) and size not in (1, sampler.num_replicas):
        raise ArgumentError(
            f"the {cls.__name__} splits the samples across {sampler.num_replicas} processes, but the run has {size}",
            key="sampler",
            notes=["Remove the sampler. Without it, each process reads its share of the samples."],
        )
    return sampler if size == 1 or knows_ranks(loader) else RankSampler(sampler)
