"""Checks the dataloader sections of a config, and the loaders that scripts pass."""

import hashlib
import inspect
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from footplate.checks import check_count, check_flag, check_keys, check_number
from footplate.data.dataset_wrappers import wrapped_datasets
from footplate.data.loader import SampleLoader
from footplate.data.loader_attributes import dataset_of, length_of
from footplate.data.loader_functions import build_collate
from footplate.data.samplers import DefaultSampler, InfiniteSampler, RankSampler, knows_ranks, samplers_of
from footplate.distributed import compare_with_main, get_world_size
from footplate.error_context import at_key, describe_changes, origin_of
from footplate.errors import ArgumentError, BuildError, DataError
from footplate.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS, check_annotations

_TORCH_KEYS = [key for key in inspect.signature(DataLoader).parameters if key != "generator"]  # the run's seed decides
LOADER_KEYS = (*_TORCH_KEYS, "num_batch_per_epoch", "diff_rank_seed")
WORKER_SETTINGS = ("persistent_workers", "prefetch_factor", "timeout", "worker_init_fn", "multiprocessing_context")
"""The dataloader settings that only matter with workers."""
_MINIMA = {"batch_size": 1, "num_workers": 0, "num_batch_per_epoch": 1, "prefetch_factor": 1}
"""The minimum values of the integer dataloader settings."""


def check_dataloader(cfg: Any) -> None:
    """Checks a dataloader section without reading data.

    Raises:
        FootplateError: The same errors as `build_dataloader`, except errors that depend on the data.
    """
    if not isinstance(cfg, Mapping):
        check_yields_batches(cfg)
        return
    checked_settings(cfg)
    for key in ("dataset", "sampler", "batch_sampler"):
        value = cfg.get(key)
        # Otherwise, the characters of a string would be treated as samples or indices.
        if isinstance(value, str) or not (key == "dataset" or value is None or hasattr(value, "__iter__")):
            raise BuildError(
                f"'{key}' must be a {key.replace('_', ' ')}, or a dict with a 'type' key", key=key, found=value
            )
    with at_key("dataset"):
        _check_dataset(cfg["dataset"])
    with at_key("sampler"):
        DATA_SAMPLERS.check(cfg.get("sampler"), dataset=None, seed=0)
    build_collate(cfg)


def checked_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the keys and values of a dataloader section, and returns a copy without NumPy integers."""
    settings = dict(cfg)
    check_keys("a data loader", cfg, LOADER_KEYS)
    if cfg.get("dataset") is None:
        raise BuildError("a data loader must have a 'dataset'", origin=origin_of(cfg), key="dataset")
    check_annotations(SampleLoader, cfg, source=cfg)
    check_flag("diff_rank_seed", cfg.get("diff_rank_seed", False))
    for key, least in _MINIMA.items():
        if cfg.get(key) is not None:
            settings[key] = check_count(key, cfg[key], least=least)
    check_number("timeout", cfg.get("timeout"), optional=True)
    return settings


def _check_dataset(cfg: Any) -> None:
    """Checks the type names and arguments of a dataset, its wrapped datasets, and their transforms."""
    if not isinstance(cfg, Mapping):
        _refuse_configs(cfg, "dataset")
        return
    DATASETS.check(cfg)
    with at_key("dataset"):
        _check_dataset(cfg.get("dataset"))
    for key, check in (("datasets", _check_dataset), ("pipeline", TRANSFORMS.check)):
        for index, entry in enumerate(cfg[key] if isinstance(cfg.get(key), Sequence) else ()):
            with at_key(f"{key}[{index}]"):
                check(entry)


def check_yields_batches(loader: Any) -> None:
    """Rejects a loader that is a dataset or a list of configs, because its items would be mistaken for batches."""
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise ArgumentError(
            "a data loader must yield batches, but a dataset yields individual samples",
            found=type(loader),
            notes=["Pass DataLoader(dataset, batch_size=...)."],
        )
    _refuse_configs(loader, "data loader")


def _refuse_configs(entries: Any, what: str) -> None:
    """Rejects a list of configs, which would be mistaken for batches or samples."""
    for entry in entries if isinstance(entries, (list, tuple)) else ():
        if isinstance(entry, Mapping) and ("dataset" in entry or isinstance(entry.get("type"), str)):
            notes = ["Join the datasets with dataset=dict(type='ConcatDataset', datasets=[...])."]
            raise ArgumentError(f"a {what} must be a single dict, not a list of dicts", found=dict(entry), notes=notes)


def check_ranks(loader: Any) -> Any:
    """Returns the loader unchanged, after checking that it is aware of its rank.

    Raises:
        ArgumentError: There are several ranks, and the loader does not appear to split the data between them.
    """
    size = get_world_size()
    if size == 1 or isinstance(loader, SampleLoader) or knows_ranks(loader):
        return loader
    dataset = dataset_of(loader)
    data_class = type(dataset if isinstance(dataset, IterableDataset) else loader)
    raise ArgumentError(
        f"each of the {size} processes would read all batches from this data loader",
        found=data_class,
        notes=[
            "Pass a torch DataLoader of a map-style dataset. Each process then reads its share.",
            f"If '{data_class.__name__}' yields only the samples of its own process, set its `rank` attribute.",
        ],
    )


def check_same_dataset(loader: Any) -> None:
    """Checks that all ranks have the same dataset if a sampler splits it across them.

    All ranks must call this function. Compares dataset lengths, including wrapped datasets, and the indices of torch
    subsets.

    Raises:
        RankError: The datasets differ, so samples would be lost or would leak from the training set into the validation
            set.
    """
    if get_world_size() == 1 or not isinstance(loader, SampleLoader):
        return
    if any(isinstance(sampler, (DefaultSampler, InfiniteSampler, RankSampler)) for sampler in samplers_of(loader)):
        compare_with_main(
            _describe_dataset(loader.dataset),
            "the dataset on %s differs from the dataset on rank 0, but all ranks must use the same dataset",
            "Build the same dataset on all ranks. Call torch.manual_seed before random_split and other random choices.",
        )


def _describe_dataset(dataset: Any) -> list[str]:
    """Returns a line with the class and length of a dataset, followed by a line for each wrapped dataset.

    The line for a torch Subset also contains a digest of the indices.
    """
    text = f"{type(dataset).__name__}: {length_of(dataset)} samples"
    if isinstance(dataset, Subset):
        text += f", digest {hashlib.sha256(repr(np.asarray(dataset.indices).tolist()).encode()).hexdigest()[:8]}"
    return [text, *(line for inner in wrapped_datasets(dataset) for line in _describe_dataset(inner))]


def check_not_empty(dataset: Any, cfg: Any) -> None:
    """Raises a DataError if the dataset built from `cfg` is empty, unless it is an IterableDataset."""
    if not isinstance(dataset, IterableDataset) and len(dataset) == 0:
        notes = [*_describe_folders(dataset), *describe_changes(cfg, "dataset")]
        message = f"the dataset '{type(dataset).__name__}' is empty"
        raise DataError(message, key="dataset", origin=origin_of(cfg), notes=notes)


def _describe_folders(dataset: Any) -> list[str]:
    """Returns a note about an empty dataset: the files in its folders, and the suffixes that it expects."""
    lines = []
    prefix = getattr(dataset, "data_prefix", None)
    for folder in prefix.values() if isinstance(prefix, Mapping) else ():
        if isinstance(folder, str) and os.path.isdir(folder):
            endings = Counter(os.path.splitext(name)[1] for name in os.listdir(folder)).most_common(3)
            counts = [f"{count} {ending or 'without a suffix'}" for ending, count in endings]
            lines.append(f"{folder} contains: {', '.join(counts) or 'nothing'}")
    suffixes = [name for name in ("img_suffix", "seg_map_suffix") if hasattr(dataset, name)]
    return [*lines, *(f"{name} is {getattr(dataset, name)!r}" for name in suffixes)]


def check_has_batches(loader: Any, purpose: str = "training") -> None:
    """Raises a DataError if a loader has no batches. `purpose` is part of the message."""
    if length_of(loader) != 0 or getattr(loader, "endless", False):
        return
    samples = length_of(dataset_of(loader))
    if not samples or not getattr(loader, "drop_last", False):
        raise DataError(f"the {purpose} loader has no batches")
    raise DataError(
        f"the dataset has too few samples for one batch per process (dataset size {samples}, batch size "
        f"{loader.batch_size}), and drop_last drops incomplete batches",
        key="drop_last",
        notes=["Reduce the batch size, or set drop_last=False."],
    )


def check_epochs_end(dataloader: Any, key: str, value: Any) -> None:
    """Raises an ArgumentError if a hook counts epochs, but an endless sampler keeps the first epoch from ending."""
    if value is not None and getattr(dataloader, "endless", False):
        raise ArgumentError(
            f"{key} counts epochs, but the sampler of the training loader is endless, so no epoch ends",
            key=key,
            found=value,
            notes=[f"Set {key.replace('epoch', 'iter')} instead."],
        )
