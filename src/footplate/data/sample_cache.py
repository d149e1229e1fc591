"""Caches samples in memory or on the device, for a dataloader's `cache` or a dataset's `keep_in_memory`."""

import copy
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from footplate.checks import check_choice, check_keys
from footplate.data.dataset_wrappers import wrapped_datasets
from footplate.data.rng import preserve_random_state, seed_generators
from footplate.data.shared_memory import RecordStore
from footplate.data.structures import BaseDataElement
from footplate.data.transforms.pipeline import Compose
from footplate.errors import ArgumentError, DataError

_logger = logging.getLogger("footplate.data")
_PLACES = ("memory", "device")
_KEYS = ("place", "max_gb")
_PROBED = 8  # samples that are read to estimate the total size
_USABLE = 0.8  # the fraction of free memory that a cache may use


class CacheSettings(NamedTuple):
    """The `cache` setting of a dataloader."""

    place: str  # "memory" or "device"
    max_bytes: float | None = None  # 80% of the free memory if None


def parse_cache(value: Any) -> CacheSettings | None:
    """Parses `cache`: None, "memory", "device", or a dict with `place` and `max_gb`."""
    if value is None or value is False:
        return None
    cfg = value if isinstance(value, Mapping) else {"place": value}
    check_keys("cache", cfg, _KEYS)
    place, gigabytes = cfg.get("place", "memory"), cfg.get("max_gb")
    check_choice("cache", place, _PLACES)
    if gigabytes is not None and (not isinstance(gigabytes, (int, float)) or gigabytes <= 0):
        raise ArgumentError("max_gb must be a number above 0", key="cache.max_gb", found=gigabytes)
    return CacheSettings(place, None if gigabytes is None else gigabytes * 1e9)


class SampleCache:
    """The results of the leading transforms for every record, and the transforms that are applied at each access.

    Samples are stored on a device, or as bytes in one array (see `RecordStore`). Each access returns a copy, so
    transforms may modify it.

    Args:
        pipeline: All transforms.
        number: The number of leading transforms whose results are cached. True selects those with `keepable = True`.
        least: The minimum of `number`; 0 allows caching the records themselves, which may be costly to create.
        device: The device that stores the samples. If it is None, samples are stored as bytes in memory.

    Raises:
        ArgumentError: `number` is less than `least` or greater than the number of transforms.
    """

    def __init__(
        self, pipeline: Compose, number: bool | int, *, least: int = 1, device: torch.device | None = None
    ) -> None:
        transforms = pipeline.transforms
        given = number
        if number is True:
            number = len(list(takewhile(lambda transform: has_flag(transform, "keepable"), transforms)))
        if not isinstance(number, int) or not least <= number <= len(transforms):
            problem = (
                f"keep_in_memory must be the number of leading transforms to cache, from {least} to {len(transforms)}"
            )
            if given is True:
                problem = "none of the leading transforms loads data that can be cached (keepable = True)"
            raise ArgumentError(problem, key="keep_in_memory", found=given)
        self.pipeline = pipeline
        self.leading = Compose(transforms[:number])
        self.remaining = Compose(transforms[number:])
        self.device = device
        self._store: RecordStore | _DeviceStore = RecordStore()

    def fill(self, samples: Iterable[Any]) -> None:
        """Stores the results of `leading` for every record. The result of a dropped record is None."""
        self._store = RecordStore(samples) if self.device is None else _DeviceStore(samples, self.device)

    @property
    def num_bytes(self) -> int:
        """The size of the samples in bytes. On a device, only tensors are counted."""
        return self._store.num_bytes

    def subset(self, indices: Sequence[int]) -> Self:
        """Returns a copy that contains only the samples at `indices`."""
        subset = copy.copy(self)
        subset._store = self._store.subset(indices)
        return subset

    def __getitem__(self, idx: int) -> Any:
        sample = self._store[idx]
        return None if sample is None else self.remaining(sample)


class _DeviceStore:
    """Stores samples with their tensors on a device. Each access returns a copy."""

    def __init__(self, samples: Iterable[Any], device: torch.device) -> None:
        self._samples = [_copy_sample(sample, device) for sample in samples]

    @property
    def num_bytes(self) -> int:
        return sum(_count_tensor_bytes(sample) for sample in self._samples)

    def subset(self, indices: Sequence[int]) -> Self:
        subset = copy.copy(self)
        subset._samples = [self._samples[index] for index in indices]
        return subset

    def __getitem__(self, idx: int) -> Any:
        return _copy_sample(self._samples[idx], None)


def has_flag(transform: Any, flag: str) -> bool:
    """Checks whether a transform's class sets `flag`. A subclass that overrides `transform` must set it again."""
    for kind in type(transform).__mro__:
        if flag in vars(kind):
            return bool(vars(kind)[flag])
        if "transform" in vars(kind):
            return False
    return False


def cache_samples(dataset: Any, settings: CacheSettings) -> str | None:
    """Caches the results of the leading deterministic transforms. The remaining transforms are applied at each access.

    Wrapped datasets are cached individually. If a dataset does not fit, it is not cached and a warning is logged.

    Args:
        dataset: A dataset with `pipeline`, `leading_samples` and `sample_cache`, or a wrapper of such datasets.
        settings: The place and the maximum size of the cache.

    Returns:
        The place where all samples are stored, "memory" or "device", or None if the places differ or not all datasets
        are cached.
    """
    if wrapped := wrapped_datasets(dataset):
        places = {cache_samples(each, settings) for each in wrapped}
        return places.pop() if len(places) == 1 else None
    if not hasattr(dataset, "leading_samples") or not isinstance(getattr(dataset, "pipeline", None), Compose):
        raise ArgumentError(
            f"the samples of the dataset '{type(dataset).__name__}' cannot be cached",
            key="cache",
            notes=["Derive it from BaseDataset, whose leading transforms with keepable = True can be cached."],
        )
    if dataset.sample_cache is None:
        cache = _select_cache(dataset, settings)
        if cache is None or not _fill_cache(cache, dataset, settings):
            return None
        dataset.sample_cache = cache
    return "memory" if dataset.sample_cache.device is None else "device"


def _select_cache(dataset: Any, settings: CacheSettings) -> SampleCache | None:
    """Returns an empty cache for the deterministic transforms. Warns and returns None if there is nothing to cache."""
    pipeline: Compose = dataset.pipeline
    is_fixed = [has_flag(each, "keepable") or has_flag(each, "fixed") for each in pipeline.transforms]
    if settings.place == "device":
        if all(is_fixed):
            device = torch.accelerator.current_accelerator() or torch.device("cpu")
            return SampleCache(pipeline, len(is_fixed), least=0, device=device)
        first_random = type(pipeline.transforms[is_fixed.index(False)]).__name__
        _logger.warning(
            "cache='device': %s may be random and runs on the CPU. Caching samples in memory instead.", first_random
        )
    loads = bool(pipeline.transforms) and has_flag(pipeline.transforms[0], "keepable")
    if not loads and not getattr(dataset, "makes_samples", False):
        name = type(dataset).__name__
        _logger.warning(
            "cache='memory': the pipeline of '%s' does not begin with a keepable transform. Not caching its samples.",
            name,
        )
        return None
    return SampleCache(pipeline, True, least=0)


def _fill_cache(cache: SampleCache, dataset: Any, settings: CacheSettings) -> bool:
    """Fills a cache. Warns and returns False if samples differ between two reads or do not fit."""
    begin, name = time.perf_counter(), type(dataset).__name__
    indices = range(0, len(dataset), max(1, len(dataset) // _PROBED))[:_PROBED]
    reads = []
    with preserve_random_state():
        for seed in (1, 2):
            seed_generators(seed)
            reads.append(list(dataset.leading_samples(cache.leading, indices)))
    if not reads[0]:
        raise DataError(f"the dataset '{name}' is empty")
    if not _is_same(*reads):
        _logger.warning("cache: the samples of '%s' differ between two reads. Not caching them.", name)
        return False
    cache.fill(reads[0])
    size = cache.num_bytes / len(reads[0]) * len(dataset)
    limit = settings.max_bytes
    if limit is None and cache.device is not None and torch.cuda.is_available():
        limit = _USABLE * torch.cuda.mem_get_info()[0]
    elif limit is None and (free := free_memory()) is not None:
        limit = _USABLE * free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if limit is not None and size > limit:
        _logger.warning(
            "cache='%s': the samples of '%s' need %.2f GB, but only %.2f GB may be used. Not caching them.",
            settings.place,
            name,
            size / 1e9,
            limit / 1e9,
        )
        return False
    cache.fill(dataset.leading_samples(cache.leading, range(len(dataset))))
    _logger.info(
        "cache='%s': cached %d samples of '%s' after %d of %d transforms: %.3f GB in %.1f s",
        "memory" if cache.device is None else "device",
        len(dataset),
        name,
        len(cache.leading.transforms),
        len(dataset.pipeline.transforms),
        cache.num_bytes / 1e9,
        time.perf_counter() - begin,
    )
    return True


def free_memory() -> int | None:
    """Returns the free memory of the machine or container in bytes, or None if it is unknown."""
    found = [1024 * int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        found.append(max(int(limit[0]) - int(used[0]), 0))
    return min(found, default=None)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _is_same(one: Any, other: Any) -> bool:
    """Checks whether two samples are bitwise equal. Values that cannot be compared count as equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return _is_same(one.detach().cpu().numpy(), other.detach().cpu().numpy())
    if isinstance(one, np.ndarray):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    if isinstance(one, BaseDataElement):
        return _is_same(dict(one.all_items()), dict(other.all_items()))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return bool(one == other) or not isinstance(one, (str, bytes, int, float, bool)) or one != one


def _count_tensor_bytes(sample: Any) -> int:
    if isinstance(sample, Tensor):
        return sample.numel() * sample.element_size()
    if isinstance(sample, Mapping):
        return sum(map(_count_tensor_bytes, sample.values()))
    if isinstance(sample, (list, tuple)):
        return sum(map(_count_tensor_bytes, sample))
    return sum(map(_count_tensor_bytes, sample.all_values())) if isinstance(sample, BaseDataElement) else 0


def _copy_sample(sample: Any, device: torch.device | None) -> Any:
    """Copies a sample. Its tensors are copied to `device`; if `device` is None, they remain on their own devices."""
    if isinstance(sample, Tensor):
        return sample.clone() if device is None else sample.to(device, copy=True)
    if isinstance(sample, BaseDataElement):
        return sample.to(device=device, copy=True)
    if isinstance(sample, Mapping):
        return {key: _copy_sample(value, device) for key, value in sample.items()}
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*(_copy_sample(value, device) for value in sample))
    if isinstance(sample, (list, tuple)):
        return type(sample)(_copy_sample(value, device) for value in sample)
    return copy.deepcopy(sample)
