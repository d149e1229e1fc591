"""Builds and checks the dataloaders of a config."""

import hashlib
import inspect
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from footplate.checks import check_count, check_flag, check_keys, check_number
from footplate.data.batches import dataset_of, length_of
from footplate.data.dataset_wrappers import innermost_datasets, wrapped_datasets
from footplate.data.loader import SampleLoader
from footplate.data.samplers import DefaultSampler, InfiniteSampler, RankSampler, knows_ranks, samplers_of
from footplate.distributed import broadcast_object, compare_with_main, get_data_rank, get_data_world_size
from footplate.error_context import at_key, describe_changes, located, origin_of
from footplate.errors import ArgumentError, BuildError, DataError
from footplate.extensions import extensions
from footplate.registry import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    TRANSFORMS,
    check_annotations,
    import_lazy,
    using_scope,
)

_logger = logging.getLogger("footplate.data")
_TORCH_KEYS = [key for key in inspect.signature(DataLoader).parameters if key != "generator"]  # the run's seed decides
LOADER_KEYS = (*_TORCH_KEYS, "num_batch_per_epoch", "diff_rank_seed")
_WORKER_KEYS = ("persistent_workers", "prefetch_factor", "timeout", "worker_init_fn", "multiprocessing_context")
_TIMEOUT = 600  # seconds without a batch before workers are considered hung


def build_dataloader(cfg: Mapping[str, Any] | Any, *, seed: int = 0) -> Any:
    """Builds a dataloader from a config section.

    Args:
        cfg: A dict with `dataset` and `sampler` (objects or dicts), `batch_sampler`, `collate_fn`, and any other
            arguments of torch's DataLoader. Alternatively, a loader: a plain DataLoader is converted to a
            `SampleLoader`, and any other loader is returned unchanged.
        seed: The seed for sample order and augmentation.

    Returns:
        A `SampleLoader`, or a torch DataLoader if the dataset is an IterableDataset.

    Raises:
        BuildError: `dataset` is missing.
        ArgumentError: A key is unknown, or a value is invalid.
        DataError: The dataset is empty.
    """
    if not isinstance(cfg, Mapping):
        return _convert_loader(cfg, seed)
    settings = _checked_settings(cfg)
    sampler_seed = seed + (get_data_rank() if settings.pop("diff_rank_seed", False) else 0)
    dataset = _build_dataset(settings.pop("dataset"))
    settings["collate_fn"] = build_collate(settings)
    settings["worker_init_fn"] = _build_worker_init(settings, seed)
    if not settings.get("num_workers"):
        _drop(settings, _WORKER_KEYS, "num_workers is 0")
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
        return _check_ranks(DataLoader(dataset, generator=torch.Generator().manual_seed(seed), **settings))
    sampler = DATA_SAMPLERS.build_nested(settings.pop("sampler", None), "sampler", dataset=dataset, seed=sampler_seed)
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


def check_dataloader(cfg: Any) -> None:
    """Checks a dataloader section without reading data.

    Raises:
        FootplateError: The same errors as `build_dataloader`, except errors that depend on the data.
    """
    if not isinstance(cfg, Mapping):
        _check_yields_batches(cfg)
        return
    _checked_settings(cfg)
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


def _check_yields_batches(loader: Any) -> None:
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


def check_same_dataset(loader: Any) -> None:
    """Checks that all ranks have the same dataset if a sampler splits it across them.

    All ranks must call this function. Compares dataset lengths, including wrapped datasets, and the indices of torch
    subsets.

    Raises:
        RankError: The datasets differ, so samples would be lost or would leak from the training set into the validation
            set.
    """
    if get_data_world_size() == 1 or not isinstance(loader, SampleLoader):
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


LOADER_COUNTS = {"batch_size": 1, "num_workers": 0, "num_batch_per_epoch": 1, "prefetch_factor": 1}
"""The minimum values of the integer dataloader settings."""


def _checked_settings(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the keys and values of a dataloader section, and returns a copy without NumPy integers."""
    settings = dict(cfg)
    check_keys("a data loader", cfg, LOADER_KEYS)
    if cfg.get("dataset") is None:
        raise BuildError("a data loader must have a 'dataset'", origin=origin_of(cfg), key="dataset")
    check_annotations(SampleLoader, cfg, source=cfg, only_flags=True)
    check_flag("diff_rank_seed", cfg.get("diff_rank_seed", False))
    for key, least in LOADER_COUNTS.items():
        if cfg.get(key) is not None:
            settings[key] = check_count(key, cfg[key], least=least)
    check_number("timeout", cfg.get("timeout"), optional=True)
    return settings


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
    if isinstance(dataset, IterableDataset):
        return dataset
    if len(dataset) == 0:
        notes = [*_describe_folders(dataset), *describe_changes(cfg, "dataset")]
        message = f"the dataset '{type(dataset).__name__}' is empty"
        raise DataError(message, key="dataset", origin=origin_of(cfg), notes=notes)
    return dataset


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


def _build_function(cfg: Any, key: str) -> Callable[..., Any]:
    """Returns the function that `cfg` specifies as a function, a name, or a dict with a `type` and arguments."""
    with at_key(key):
        cfg = import_lazy(cfg)
        if isinstance(cfg, str):
            return FUNCTIONS.get(cfg)
        if not isinstance(cfg, Mapping):
            if not callable(cfg):
                raise ArgumentError(f"{key} must be a function, its name, or a dict with a 'type' key", found=cfg)
            return cfg  # type: ignore[no-any-return]
        if "type" not in cfg:
            raise BuildError("a dict that describes a function must have a 'type' key", found=dict(cfg))
        with using_scope(cfg.get("_scope_")):
            function = FUNCTIONS.resolve(cfg["type"], cfg)
        if inspect.isclass(function):
            return FUNCTIONS.build(cfg)  # type: ignore[no-any-return]
        arguments = {name: value for name, value in cfg.items() if name not in ("type", "_scope_")}
        return partial(function, **arguments) if arguments else function


def build_collate(cfg: Mapping[str, Any]) -> Callable[[Sequence[Any]], Any]:
    """Returns the collate function of a dataloader section. The default is `pseudo_collate`."""
    collate = cfg.get("collate_fn")
    return _build_function("pseudo_collate" if collate is None else collate, "collate_fn")


def _build_worker_init(settings: Mapping[str, Any], seed: int) -> Callable[..., Any] | None:
    """Returns the function configured as `worker_init_fn`, or None if it is not set.

    If `worker_init_fn` is a dict, the function also receives `num_workers`, `rank` and `seed`, if it accepts them.
    """
    cfg = settings.get("worker_init_fn")
    if cfg is None:
        return None
    if not isinstance(cfg, Mapping):
        return _build_function(cfg, "worker_init_fn")
    # An MMEngine option that silences warnings in workers, which footplate does not need.
    cfg = {key: value for key, value in cfg.items() if key != "disable_subprocess_warning"}
    function = _build_function(cfg, "worker_init_fn")
    known = {"num_workers": settings.get("num_workers", 0), "rank": get_data_rank(), "seed": seed}
    accepted = inspect.signature(function).parameters.keys() - cfg.keys()
    return partial(function, **{key: value for key, value in known.items() if key in accepted})


def _drop(settings: dict[str, Any], keys: Iterable[str], reason: str, *, level: int = logging.INFO) -> None:
    """Removes settings that have no effect here and would make torch fail or warn. Logs the removed settings."""
    dropped = [key for key in keys if settings.pop(key, None)]
    if dropped:
        _logger.log(level, "Ignoring %s, because %s.", ", ".join(dropped), reason)


def _convert_loader(loader: Any, seed: int) -> Any:
    """Converts a plain DataLoader to a `SampleLoader` for this rank. Other loaders are returned unchanged."""
    _check_yields_batches(loader)
    if type(loader) is not DataLoader or isinstance(loader.dataset, IterableDataset):
        return _check_ranks(loader)
    names = ("collate_fn", "num_workers", "pin_memory", *_WORKER_KEYS)
    settings = {name: getattr(loader, name) for name in names}
    batching: Any = loader if loader.batch_sampler is None else loader.batch_sampler
    if type(batching) in (DataLoader, BatchSampler):  # a BatchSampler may have been passed by the user
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
    size = get_data_world_size()
    if isinstance(sampler, DistributedSampler) and size not in (1, sampler.num_replicas):
        raise ArgumentError(
            f"the {cls.__name__} splits the samples across {sampler.num_replicas} processes, but the run has {size}",
            key="sampler",
            notes=["Remove the sampler. Without it, each process reads its share of the samples."],
        )
    return sampler if size == 1 or knows_ranks(loader) else RankSampler(sampler)


def _check_ranks(loader: Any) -> Any:
    """Returns the loader unchanged, after checking that it is aware of its rank.

    Raises:
        ArgumentError: There are several ranks, and the loader does not appear to split the data between them.
    """
    size = get_data_world_size()
    if size == 1 or isinstance(loader, SampleLoader) or knows_ranks(loader):
        return loader
    data_class = type(dataset_of(loader) or loader)
    raise ArgumentError(
        f"each of the {size} processes would read all batches from this data loader",
        found=data_class,
        notes=[
            "Pass a torch DataLoader of a map-style dataset. Each process then reads its share.",
            f"If '{data_class.__name__}' yields only the samples of its own process, set its `rank` attribute.",
        ],
    )
