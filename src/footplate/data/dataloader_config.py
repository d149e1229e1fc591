"""Builds the dataloaders of a config."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from footplate.data.dataloader_checks import WORKER_SETTINGS, check_not_empty, check_ranks, checked_settings
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.data.loader import SampleLoader
from footplate.data.loader_functions import build_collate, build_worker_init
from footplate.data.plain_loaders import convert_loader
from footplate.data.samplers import RANDOM_SAMPLERS, RankSampler
from footplate.distributed import get_rank, get_world_size
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.extensions import extensions
from footplate.registry import DATA_SAMPLERS, DATASETS

_logger = logging.getLogger("footplate.data")
_TIMEOUT = 600  # seconds without a batch before workers are considered hung


def build_dataloader(cfg: Mapping[str, Any] | Any, *, seed: int = 0) -> Any:
    """Builds a dataloader from a config section.

    Args:
        cfg: A dict with `dataset` and `sampler` (objects or dicts), `batch_sampler`, `collate_fn`, and any other
            arguments of torch's DataLoader. Alternatively, a loader: a plain DataLoader is converted to a
            `SampleLoader`, and any other loader is returned unchanged. The runner and the loops can therefore pass a
            loader that has already been built.
        seed: The seed for sample order and augmentation.

    Returns:
        A `SampleLoader`, or a torch DataLoader if the dataset is an IterableDataset.

    Raises:
        BuildError: `dataset` is missing.
        ArgumentError: A key is unknown, or a value is invalid.
        DataError: The dataset is empty.
    """
    if not isinstance(cfg, Mapping):
        return convert_loader(cfg, seed)
    settings = checked_settings(cfg)
    sampler_seed = seed + (get_rank() if settings.pop("diff_rank_seed", False) else 0)
    dataset = _build_dataset(settings.pop("dataset"))
    settings["collate_fn"] = build_collate(settings)
    settings["worker_init_fn"] = build_worker_init(settings, seed)
    if not settings.get("num_workers"):
        _drop(settings, WORKER_SETTINGS, "num_workers is 0")
    elif settings.get("timeout") is None:
        settings["timeout"] = _TIMEOUT
    if not torch.accelerator.is_available():
        _drop(settings, ("pin_memory",), "there is no accelerator")
    if isinstance(dataset, IterableDataset):
        if settings.pop("shuffle", False):
            note = "Remove `shuffle`, and shuffle in the dataset instead."
            raise ArgumentError("a data loader cannot shuffle an IterableDataset", key="shuffle", notes=[note])
        ignored = ("sampler", "batch_sampler", "num_batch_per_epoch")
        _drop(settings, ignored, "an IterableDataset chooses its own samples", level=logging.WARNING)
        return check_ranks(DataLoader(dataset, generator=torch.Generator().manual_seed(seed), **settings))
    sampler = DATA_SAMPLERS.build_nested(settings.pop("sampler", None), "sampler", dataset=dataset, seed=sampler_seed)
    if type(sampler) in RANDOM_SAMPLERS and get_world_size() > 1:
        sampler = RankSampler(sampler)
    batch_sampler = settings.get("batch_sampler")
    if isinstance(batch_sampler, Mapping):
        arguments = {"sampler": sampler, "batch_size": settings.pop("batch_size", 1)}
        settings["batch_sampler"] = DATA_SAMPLERS.build_nested(batch_sampler, "batch_sampler", **arguments)
    else:
        settings["sampler"] = sampler
    try:
        return SampleLoader(dataset, seed=seed, **settings)
    except (TypeError, ValueError) as error:  # torch checks the other arguments
        raise ArgumentError(f"the data loader cannot be built: {error}") from error


def _build_dataset(cfg: Any) -> Any:
    """Builds and initializes a dataset. Raises a DataError if the dataset is empty."""
    dataset = DATASETS.build_nested(cfg, "dataset")
    with at_key("dataset"):
        if hasattr(dataset, "full_init"):
            with located(cfg):
                dataset.full_init()
        for inner in innermost_datasets(dataset):
            for extension in extensions():
                extension.check_dataset(inner)
    check_not_empty(dataset, cfg)
    return dataset


def _drop(settings: dict[str, Any], keys: Iterable[str], reason: str, *, level: int = logging.INFO) -> None:
    """Removes settings that have no effect here and would make torch fail or warn. Logs the removed settings."""
    dropped = [key for key in keys if settings.pop(key, None)]
    if dropped:
        _logger.log(level, "Ignoring %s, because %s.", ", ".join(dropped), reason)
