"""Caches samples in memory or on the device, as set by the `cache` of a data loader."""

import copy
import logging
import os
import pickle
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from footplate.data.compose import Compose
from footplate.data.kept_samples import KeptSamples, says
from footplate.data.seeding import kept_random_state, seed_generators
from footplate.data.structures import BaseDataElement
from footplate.errors import ArgumentError, DataError
from footplate.messages import nearest

_logger = logging.getLogger("footplate.data")
_PLACES = ("memory", "device")
_KEYS = ("place", "max_gb")
_LOOKED_AT = 8  # samples from which the total size is estimated
_ROOM = 0.8  # the fraction of free memory that a cache may use


class Cache(NamedTuple):
    """The `cache` setting of a data loader.

    Attributes:
        place: "memory" or "device".
        max_bytes: The maximum size in bytes; None for 80% of the free memory.
    """

    place: str
    max_bytes: float | None = None


def read_cache(value: Any) -> Cache | None:
    """Parses `cache`: None, "memory", "device", or a dict with `place` and `max_gb`.

    Raises:
        ArgumentError: It is something else.
    """
    if value is None or value is False:
        return None
    cfg = value if isinstance(value, Mapping) else {"place": value}
    for key in cfg:
        if key not in _KEYS:
            raise ArgumentError(f"cache has no '{key}'", key=f"cache.{key}", suggestion=nearest(str(key), _KEYS))
    place, gigabytes = cfg.get("place", "memory"), cfg.get("max_gb")
    if place not in _PLACES:
        near = nearest(str(place), _PLACES)
        raise ArgumentError(
            "samples are kept in 'memory' or on the 'device'", key="cache", found=place, suggestion=near
        )
    if gigabytes is not None and (not isinstance(gigabytes, (int, float)) or gigabytes <= 0):
        raise ArgumentError("max_gb is a number above 0", key="cache.max_gb", found=gigabytes)
    return Cache(place, None if gigabytes is None else gigabytes * 1e9)


def keep_samples(dataset: Any, cache: Cache) -> str | None:
    """Caches the results of the leading deterministic transforms; the others are applied at each access.

    Wrapped datasets are cached one by one. A dataset that does not fit is not cached, which is logged.

    Args:
        dataset: A `BaseDataset`, another dataset with `pipeline`, `first_samples` and `kept`, or a wrapper of such
            datasets.
        cache: The location and the maximum size.

    Returns:
        The location of all samples, "memory" or "device"; None if it differs or some datasets are not cached.

    Raises:
        ArgumentError: The dataset does not tell what may be kept.
    """
    inside = [*(getattr(dataset, "datasets", None) or ()), *([dataset.dataset] if hasattr(dataset, "dataset") else [])]
    if inside:
        places = {keep_samples(each, cache) for each in inside}
        return places.pop() if len(places) == 1 else None
    if not hasattr(dataset, "first_samples") or not isinstance(getattr(dataset, "pipeline", None), Compose):
        raise ArgumentError(
            f"the dataset '{type(dataset).__name__}' does not tell what of its samples is always the same",
            key="cache",
            notes=["BaseDataset does: what its first transforms make, those that say keepable = True"],
        )
    if dataset.kept is None:
        dataset.kept = _filled(dataset, cache)
    if dataset.kept is None:
        return None
    return "device" if isinstance(dataset.kept, _DeviceSamples) else "memory"


class _DeviceSamples(KeptSamples):
    """Complete samples on a device; each access returns a copy."""

    def __init__(self, pipeline: Compose, device: torch.device) -> None:
        super().__init__(pipeline, len(pipeline.transforms), least=0)
        self._device = device
        self._store: list[Any] = []

    def fill(self, samples: Iterable[Any]) -> None:
        """Stores all samples, with their tensors on the device."""
        self._store = [_mapped(sample, self._device) for sample in samples]

    @property
    def num_bytes(self) -> int:
        """The size of the tensors in bytes."""
        return sum(_tensor_bytes(sample) for sample in self._store)

    def subset(self, indices: Sequence[int]) -> Self:
        """Returns a copy with some of the samples."""
        made = copy.copy(self)
        made._store = [self._store[at] for at in indices]
        return made

    def __getitem__(self, idx: int) -> Any:
        return _mapped(self._store[idx], None)


def _filled(dataset: Any, cache: Cache) -> KeptSamples | None:
    begin, name = time.perf_counter(), type(dataset).__name__
    kept = _fitting_kind(dataset, cache)
    if kept is None:
        return None
    looked_at = _looked_at(dataset, kept)
    if looked_at is None:
        return None
    whole = isinstance(kept, _DeviceSamples)
    size = sum((_tensor_bytes if whole else _pickled_bytes)(each) for each in looked_at) / len(looked_at) * len(dataset)
    room = _room(whole, cache)
    if room is not None and size > room:
        what = f"the samples of '{name}' take {size / 1e9:.2f} GB and {room / 1e9:.2f} GB may be used"
        _logger.warning("cache='%s': %s: they are read as without", cache.place, what)
        return None
    kept.fill(dataset.first_samples(kept.first, range(len(dataset))))
    seconds = time.perf_counter() - begin
    number = len(kept.first.transforms)
    _logger.info(
        "cache='%s': %d samples of '%s' behind %d of %d transforms, %.3f GB, in %.1f s",
        "device" if whole else "memory",
        len(dataset),
        name,
        number,
        len(dataset.pipeline.transforms),
        kept.num_bytes / 1e9,
        seconds,
    )
    return kept


def _fitting_kind(dataset: Any, cache: Cache) -> KeptSamples | None:
    pipeline: Compose = dataset.pipeline
    fixed = list(takewhile(lambda each: says(each, "keepable") or says(each, "fixed"), pipeline.transforms))
    if cache.place == "device":
        if len(fixed) == len(pipeline.transforms):
            return _DeviceSamples(pipeline, torch.accelerator.current_accelerator() or torch.device("cpu"))
        random = type(pipeline.transforms[len(fixed)]).__name__
        _logger.warning("cache='device': %s acts anew each time, on the host: samples are kept in memory", random)
    makes = bool(getattr(dataset, "makes_samples", False))
    if not makes and not (fixed and says(fixed[0], "keepable")):
        _logger.warning("cache='memory': the pipeline of '%s' begins with nothing to keep", type(dataset).__name__)
        return None
    return KeptSamples(pipeline, True, least=0)


def _looked_at(dataset: Any, kept: KeptSamples) -> list[Any] | None:
    """Returns the cached form of some samples, or None if two passes give different results."""
    step = max(1, len(dataset) // _LOOKED_AT)
    some = range(0, len(dataset), step)[:_LOOKED_AT]
    rounds = []
    with kept_random_state():
        for seed in (1, 2):
            seed_generators(seed)
            rounds.append(list(dataset.first_samples(kept.first, some)))
    if not _is_same(*rounds):
        _logger.warning("cache: samples of '%s' differ each time: they are read as without", type(dataset).__name__)
        return None
    if not rounds[0]:
        raise DataError(f"the dataset '{type(dataset).__name__}' is empty")
    return rounds[0]


def _room(on_device: bool, cache: Cache) -> float | None:
    """Returns the maximum size of a cache in this process in bytes; None if unknown."""
    if cache.max_bytes is not None:
        return cache.max_bytes
    if on_device and torch.cuda.is_available():
        return _ROOM * torch.cuda.mem_get_info()[0]
    free = free_memory()
    return None if free is None else _ROOM * free / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_memory() -> int | None:
    """Returns the free memory of the machine or container in bytes; None if unknown."""
    found = list(_free_memories())
    return min(found) if found else None


def _free_memories() -> Iterator[int]:
    lines = _lines("/proc/meminfo")
    for line in lines:
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        yield max(int(limit[0]) - int(used[0]), 0)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _is_same(one: Any, other: Any) -> bool:
    """Checks whether two samples are equal bit by bit; values that cannot be compared count as equal."""
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


def _pickled_bytes(sample: Any) -> int:
    return len(pickle.dumps(sample, protocol=pickle.HIGHEST_PROTOCOL))


def _tensor_bytes(sample: Any) -> int:
    if isinstance(sample, Tensor):
        return sample.numel() * sample.element_size()
    if isinstance(sample, Mapping):
        return sum(map(_tensor_bytes, sample.values()))
    if isinstance(sample, (list, tuple)):
        return sum(map(_tensor_bytes, sample))
    return sum(map(_tensor_bytes, sample.all_values())) if isinstance(sample, BaseDataElement) else 0


def _mapped(sample: Any, device: torch.device | None) -> Any:
    """Copies a sample; its tensors are copied to the device, or stay on theirs if it is None."""
    if isinstance(sample, Tensor):
        return sample.clone() if device is None else sample.to(device, copy=True)
    if isinstance(sample, BaseDataElement):
        return sample.to(device=device, copy=True)
    if isinstance(sample, Mapping):
        return {key: _mapped(value, device) for key, value in sample.items()}
    if isinstance(sample, tuple) and hasattr(sample, "_fields"):
        return type(sample)(*(_mapped(value, device) for value in sample))
    if isinstance(sample, (list, tuple)):
        return type(sample)(_mapped(value, device) for value in sample)
    return copy.deepcopy(sample)
