"""Builds data loaders from the `*_dataloader` sections of a config."""

import inspect
import logging
import math
import multiprocessing
import multiprocessing.context
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from footplate.checks import check_count, check_flag
from footplate.data.loader import SampleLoader
from footplate.data.sample_cache import cache_samples, parse_cache
from footplate.distributed import get_rank
from footplate.error_context import at_key, describe_changes, located, origin_of
from footplate.errors import ArgumentError, BuildError, DataError
from footplate.messages import nearest
from footplate.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS, TRANSFORMS, check_flags

_logger = logging.getLogger("footplate.data")
_TORCH_KEYS = tuple(inspect.signature(DataLoader.__init__).parameters)[1:]
_KEYS = (*_TORCH_KEYS, "num_batch_per_epoch", "diff_rank_seed", "cache")
_TIMEOUT = 600  # seconds without a batch, after which workers are considered to hang
_WORKER_KEYS = (
    "persistent_workers",
    "prefetch_factor",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
)


def build_dataloader(cfg: Mapping[str, Any] | Any, *, seed: int = 0, default_collate: str = "pseudo_collate") -> Any:
    """Builds a data loader from a section of a config.

    Args:
        cfg: `dataset` and `sampler` as objects or dicts, `batch_sampler`, `collate_fn`, `cache`, and any argument of
            torch's DataLoader. `cache`, either "memory" or "device", keeps the results of the leading deterministic
            transforms. A plain DataLoader is converted to a `SampleLoader`; any other loader is returned unchanged.
        seed: The seed of sample order and augmentation.
        default_collate: The name of the collate function to use if the section has no `collate_fn`.

    Raises:
        BuildError: A key is unknown, or `dataset` is missing.
        ArgumentError: A value makes no sense.
        DataError: The dataset is empty.
    """
    if type(cfg) is DataLoader:
        return _adopted(cfg, seed)
    if not isinstance(cfg, Mapping):
        _check_batches(cfg)
        return cfg
    _check_keys(cfg)
    _check_numbers(cfg)
    settings = dict(cfg)
    offset = get_rank() if settings.pop("diff_rank_seed", False) else 0
    dataset = _build_dataset(settings.pop("dataset"))
    _keep(dataset, settings)
    settings["collate_fn"] = _build_function(settings.get("collate_fn"), default_collate)
    settings["worker_init_fn"] = _build_worker_init(
        settings.get("worker_init_fn"), num_workers=settings.get("num_workers", 0), rank=get_rank(), seed=seed
    )
    settings = _without_idle_keys(settings)
    if isinstance(dataset, IterableDataset):
        return _build_iterable(dataset, settings, seed)
    _build_samplers(settings, cfg, dataset, seed + offset)
    return SampleLoader(dataset, seed=seed, **settings)


def check_dataloader(cfg: Any) -> None:
    """Checks a section for errors that `build_dataloader` finds before it reads data.

    Raises:
        FootplateError: As `build_dataloader` raises it.
    """
    _check_batches(cfg)
    if isinstance(cfg, Mapping):
        _check_keys(cfg)
        _check_numbers(cfg)
        with at_key("dataset"):
            check_dataset(cfg["dataset"])
        _check_parts(cfg)
        if isinstance(cfg.get("sampler"), Mapping):
            with at_key("sampler"):
                DATA_SAMPLERS.check(cfg["sampler"], dataset=None, seed=0)
        _build_function(cfg.get("collate_fn"), "pseudo_collate")


def check_dataset(cfg: Any) -> None:
    """Checks the names and arguments of a dataset, of the datasets that it wraps, and of their transforms.

    Raises:
        FootplateError: A name or an argument is not known.
    """
    if not isinstance(cfg, Mapping):
        _check_samples(cfg)
        return
    DATASETS.check(cfg)
    several: Any = cfg.get("datasets") if isinstance(cfg.get("datasets"), Sequence) else []
    inner = {"dataset": cfg.get("dataset"), **{f"datasets[{place}]": each for place, each in enumerate(several)}}
    for key, each in inner.items():
        with at_key(key):
            check_dataset(each)
    if isinstance(cfg.get("pipeline"), Sequence):
        for place, step in enumerate(cfg["pipeline"]):
            with at_key(f"pipeline[{place}]"):
                TRANSFORMS.check(step)


def _check_keys(cfg: Mapping[str, Any]) -> None:
    for key in cfg:
        if key not in _KEYS:
            raise BuildError(
                f"a data loader takes no argument '{key}'",
                origin=origin_of(cfg, key),
                key=str(key),
                found=cfg[key],
                suggestion=nearest(str(key), _KEYS),
            )
    if cfg.get("dataset") is None:
        raise BuildError("a data loader needs a 'dataset'", origin=origin_of(cfg), key="dataset")


def _check_parts(cfg: Mapping[str, Any]) -> None:
    """Refuses a string instead of a dict, whose characters would be taken for samples or indices."""
    for key, noun in (("dataset", "dataset"), ("sampler", "sampler"), ("batch_sampler", "batch sampler")):
        if isinstance(cfg.get(key), str):
            raise BuildError(f"a {noun} is built from a dict with the key 'type'", key=key, found=cfg[key])
        if key != "dataset" and not hasattr(cfg.get(key, ()) or (), "__iter__"):
            raise BuildError(f"a {noun} must be a dict, or yield numbers", key=key, found=cfg[key])


def _check_samples(dataset: Any) -> None:
    """Refuses a list of dataset configs, which would be taken for a list of samples."""
    several = dataset if isinstance(dataset, (list, tuple)) else ()
    if several and all(isinstance(each, Mapping) and isinstance(each.get("type"), str) for each in several):
        raise ArgumentError(
            "a dataset is one dict; several are joined by dict(type='ConcatDataset', datasets=[...])",
            found=[dict(each) for each in several],
        )


def _check_batches(loader: Any) -> None:
    """Refuses a list of data loader configs, which would be taken for a list of batches."""
    several = loader if isinstance(loader, (list, tuple)) else ()
    for place, each in enumerate(several):
        if isinstance(each, Mapping) and (not each or "dataset" in each or isinstance(each.get("type"), str)):
            raise ArgumentError(
                "a data loader is one dict; datasets are joined by dataset=dict(type='ConcatDataset', datasets=[...])",
                key=f"[{place}]",
                found=dict(each),
            )


def _keep(dataset: Any, settings: dict[str, Any]) -> None:
    """Fills the cache that `cache` requests; samples on the device are read without workers."""
    cache = parse_cache(settings.pop("cache", None))
    if cache is None:
        return
    if cache_samples(dataset, cache) == "device":
        idle = [key for key in ("num_workers", "pin_memory") if settings.pop(key, None)]
        if idle:
            _logger.info("%s: without effect, since samples are on the device", ", ".join(idle))


def _check_numbers(cfg: Mapping[str, Any]) -> None:
    parse_cache(cfg.get("cache"))
    check_flags(SampleLoader, cfg, source=cfg)
    check_flag("diff_rank_seed", cfg.get("diff_rank_seed", False))
    for key, least in (("batch_size", 1), ("num_workers", 0), ("num_batch_per_epoch", 1), ("prefetch_factor", 1)):
        value = cfg.get(key)
        if value is not None:
            check_count(key, value, least=least)
    _check_order(cfg)
    timeout = cfg.get("timeout")
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < math.inf
    ):
        raise ArgumentError("timeout is a number of seconds, 0 without an end", key="timeout", found=timeout)
    context, known = cfg.get("multiprocessing_context"), multiprocessing.get_all_start_methods()
    if context is not None and context not in known and not isinstance(context, multiprocessing.context.BaseContext):
        raise ArgumentError(
            f"multiprocessing_context must be one of {', '.join(known)}",
            key="multiprocessing_context",
            found=context,
            suggestion=nearest(context, known),
        )
    _check_device(cfg.get("pin_memory_device"))
    if not isinstance(cfg.get("generator"), (torch.Generator, type(None))):
        raise ArgumentError("generator must be a torch.Generator", key="generator", found=cfg["generator"])
    first = cfg.get("worker_init_fn")
    if first is not None and not callable(first) and not isinstance(first, Mapping):
        raise ArgumentError(
            "worker_init_fn must be a function, or a dict with its 'type'", key="worker_init_fn", found=first
        )


def _check_device(name: Any) -> None:
    """Refuses a `pin_memory_device` that torch does not know; "" stands for the current device."""
    if name is None or name == "":
        return
    try:
        if not isinstance(name, str):
            raise TypeError
        torch.device(name)
    except (TypeError, RuntimeError) as error:
        raise ArgumentError(
            "pin_memory_device must be the name of a device", key="pin_memory_device", found=name
        ) from error


def _check_order(cfg: Mapping[str, Any]) -> None:
    """Refuses two settings that both determine the order of samples or the batches, since one would be ignored."""
    for key, decider in (
        ("shuffle", "sampler"),
        ("shuffle", "batch_sampler"),
        ("drop_last", "batch_sampler"),
    ):
        if cfg.get(key) and cfg.get(decider) is not None:
            raise ArgumentError(
                f"'{key}' has no effect with a '{decider}', which decides on it",
                key=key,
                found=cfg[key],
                notes=[f"Remove '{key}', and set it in '{decider}' where it takes it."],
            )
    if cfg.get("sampler") is not None and not isinstance(cfg.get("batch_sampler"), (Mapping, type(None))):
        raise ArgumentError("'sampler' has no effect with a batch sampler that is built already", key="sampler")


def _build_dataset(cfg: Any) -> Any:
    dataset = cfg
    with at_key("dataset"):
        if isinstance(cfg, Mapping):
            dataset = DATASETS.build(cfg)
        if hasattr(dataset, "full_init"):
            with located(cfg):
                dataset.full_init()
    if not isinstance(dataset, IterableDataset) and _length(dataset) == 0:
        chosen = isinstance(cfg, Mapping) and cfg.get("indices") in (0, [], ())
        raise DataError(
            f"the dataset '{type(dataset).__name__}' is empty",
            key="dataset.indices" if chosen else "dataset",
            origin=origin_of(cfg, "indices" if chosen else None),
            notes=() if chosen else describe_changes(cfg, "dataset"),
        )
    return dataset


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except Exception as error:
        what = f"the dataset '{type(dataset).__name__}' cannot say how many samples it has"
        raise DataError(f"{what}: {type(error).__name__}: {error}", key="dataset") from error


def _build_samplers(settings: dict[str, Any], cfg: Mapping[str, Any], dataset: Any, seed: int) -> None:
    """Builds the samplers in `settings`."""
    if isinstance(settings.get("sampler"), Mapping):
        with at_key("sampler"):
            settings["sampler"] = DATA_SAMPLERS.build(settings["sampler"], dataset=dataset, seed=seed)
    if isinstance(settings.get("batch_sampler"), Mapping):
        given = {"sampler": settings.pop("sampler", None), "batch_size": settings.pop("batch_size", 1)}
        with at_key("batch_sampler"):
            settings["batch_sampler"] = DATA_SAMPLERS.build(settings["batch_sampler"], **given)
    if settings.get("batch_sampler") is not None:
        for key in ("sampler", "batch_size", "shuffle", "drop_last"):
            settings.pop(key, None)


def _build_function(cfg: Any, default: str) -> Callable[..., Any]:
    """Returns the collate function; further keys of a dict become its arguments."""
    if cfg is None or isinstance(cfg, str):
        with at_key("collate_fn"):
            return FUNCTIONS.get(cfg or default)
    if isinstance(cfg, Mapping):
        with at_key("collate_fn"):
            return _bound(cfg)
    if not callable(cfg):
        raise ArgumentError("collate_fn is a function or a dict with its 'type'", key="collate_fn", found=cfg)
    return cfg  # type: ignore[no-any-return]


def _bound(cfg: Mapping[str, Any]) -> Callable[..., Any]:
    if "type" not in cfg:
        raise BuildError("a function is built from a dict with the key 'type'", found=dict(cfg))
    arguments = {key: value for key, value in cfg.items() if key != "type"}
    found = FUNCTIONS.resolve(cfg["type"], cfg)
    if inspect.isclass(found):
        return FUNCTIONS.build(cfg)  # type: ignore[no-any-return]
    return partial(found, **arguments) if arguments else found


def _build_worker_init(cfg: Any, **known: int) -> Any:
    """Returns the `worker_init_fn`, bound to those of the `known` values that it has parameters for."""
    if not isinstance(cfg, Mapping):
        return cfg
    # An option of MMEngine that silences warnings of workers; footplate does not need it.
    cfg = {key: value for key, value in cfg.items() if key != "disable_subprocess_warning"}
    with at_key("worker_init_fn"):
        found = _bound(cfg)
    told = inspect.signature(found).parameters
    return partial(found, **{key: value for key, value in known.items() if key in told and key not in cfg})


def _without_idle_keys(settings: dict[str, Any]) -> dict[str, Any]:
    """Removes settings without effect, on which torch would fail or warn; sets a default timeout for workers."""
    if not settings.get("num_workers"):
        idle = [key for key in _WORKER_KEYS if settings.get(key)]
        settings = {key: value for key, value in settings.items() if key not in _WORKER_KEYS}
        if idle:
            _logger.info("%s: without effect, since num_workers is 0", ", ".join(idle))
    elif settings.get("timeout") is None:
        settings["timeout"] = _TIMEOUT
    if settings.get("pin_memory") and not torch.accelerator.is_available():
        settings["pin_memory"] = False
        _logger.info("pin_memory: without effect, since there is no accelerator")
    return settings


def _build_iterable(dataset: Any, settings: dict[str, Any], seed: int) -> DataLoader[Any]:
    if settings.pop("shuffle", False):
        raise ArgumentError("an IterableDataset cannot be shuffled by its loader", key="shuffle", found=True)
    idle = [key for key in ("sampler", "batch_sampler", "num_batch_per_epoch") if settings.pop(key, None)]
    if idle:
        _logger.warning("%s: without effect, since an IterableDataset decides on its samples", ", ".join(idle))
    return DataLoader(dataset, generator=torch.Generator().manual_seed(seed), **settings)


def _adopted(loader: DataLoader[Any], seed: int) -> Any:
    """Converts a plain DataLoader to a SampleLoader; returns it unchanged if the seed cannot determine its order."""
    if isinstance(loader.dataset, IterableDataset) or loader.generator is not None:
        return loader
    names = (
        "collate_fn",
        "num_workers",
        "pin_memory",
        "timeout",
        "worker_init_fn",
        "multiprocessing_context",
    )
    settings = {name: getattr(loader, name) for name in (*names, "prefetch_factor", "persistent_workers")}
    if loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler:
        settings["batch_sampler"] = loader.batch_sampler
    else:
        settings.update(batch_size=loader.batch_size, sampler=loader.sampler, drop_last=loader.drop_last)
    return SampleLoader(loader.dataset, seed=seed, **settings)
