"""The datasets of a validation or test: one, or several by name."""

import copy
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from footplate.checks import check_count
from footplate.data import SampleLoader, build_dataloader
from footplate.distributed import gather_objects
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.evaluation import Evaluator, build_evaluator
from footplate.messages import nearest
from footplate.records.scalar_names import dataset_metric


class EvaluationSet(NamedTuple):
    """A dataset with its metrics.

    Attributes:
        name: The prefix of its metrics, as in `name/mIoU`. Empty if it is the only dataset.
        dataloader: Its batches.
        evaluator: Its metrics.
        interval: The number of epochs or iterations between its validations. None: every validation includes it.
    """

    name: str
    dataloader: Any
    evaluator: Evaluator
    interval: int | None = None

    def named(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the metrics with the dataset's prefix."""
        return {dataset_metric(self.name, key): value for key, value in metrics.items()}


def build_loaders(cfg: Any, seed: int) -> Any:
    """Builds the loader of a section, or a dict of loaders if the section is a dict of sections by name.

    On several processes each sample is in one batch of one process: no sample is repeated to fill the last batches.

    Raises:
        ArgumentError: A name is no word or holds a slash, or several sections have no names.
        FootplateError: A loader cannot be built.
    """
    if isinstance(cfg, (list, tuple)) and any(isinstance(each, Mapping) and "dataset" in each for each in cfg):
        raise ArgumentError("several sets are a dict of sections by name", notes=["dict(clean=dict(...), ...)"])
    if not holds_several(cfg):
        return _build_loader(cfg, seed)
    loaders = {}
    for name, each in cfg.items():
        if not isinstance(name, str) or "/" in name or not name:
            raise ArgumentError("a set's name is a word and holds no slash", key=str(name), found=name)
        with at_key(name):
            loaders[name] = _build_loader(each, seed)
    return loaders


def _build_loader(cfg: Any, seed: int) -> Any:
    loader = build_dataloader(cfg, seed=seed)
    if isinstance(loader, SampleLoader) and loader is not cfg:
        loader.count_once()
    return loader


def build_evaluators(cfg: Any, loaders: Any) -> Any:
    """Builds the evaluator of a section, or, for several loaders, a dict of evaluators by name.

    Args:
        cfg: The section of an evaluator, of which each dataset gets its own, or a dict of such sections by name.
        loaders: The result of `build_loaders`.

    Raises:
        ArgumentError: A set has no evaluator, or an evaluator has no set.
    """
    if not isinstance(loaders, Mapping):
        return build_evaluator(cfg)
    if not _is_by_set(cfg):
        return {name: build_evaluator(copy.deepcopy(cfg)) for name in loaders}
    check_evaluator_names(cfg, loaders)
    found = {}
    for name in loaders:
        with at_key(name):
            found[name] = build_evaluator(cfg[name])
    return found


def _is_by_set(cfg: Any) -> bool:
    return isinstance(cfg, Mapping) and "type" not in cfg and "metrics" not in cfg


def check_evaluator_names(cfg: Any, sets: Collection[str]) -> None:
    """Checks that a dict of evaluators has exactly the names of the datasets.

    Raises:
        ArgumentError: A set has no evaluator, or an evaluator has no set.
    """
    if not _is_by_set(cfg):
        return
    for name in cfg:
        if name not in sets:
            raise ArgumentError(f"there is no set '{name}'", key=name, suggestion=nearest(name, sets))
    for name in sets:
        if name not in cfg:
            raise ArgumentError(f"the set '{name}' has no evaluator", key=name, notes=[f"there are: {', '.join(cfg)}"])


def check_intervals(intervals: Mapping[str, int] | None, sets: Collection[str]) -> None:
    """Checks that each interval belongs to a dataset and is a positive integer.

    Raises:
        ArgumentError: An interval belongs to no set, or is not positive.
    """
    if not isinstance(intervals, (Mapping, type(None))):
        raise ArgumentError("intervals must be a dict of numbers by set", key="intervals", found=intervals)
    for name, value in (intervals or {}).items():
        if name not in sets:
            near = nearest(name, sets)
            raise ArgumentError(f"there is no set '{name}'", key=f"intervals.{name}", suggestion=near)
        check_count(name, value, key=f"intervals.{name}")


def put_together(loaders: Any, evaluators: Any, intervals: Mapping[str, int] | None) -> list[EvaluationSet]:
    """Combines loaders, evaluators and intervals into datasets, and attaches each dataset to its evaluator.

    Args:
        loaders: A loader, or a dict of loaders by name.
        evaluators: An evaluator, or a dict of evaluators by the same names.
        intervals: The intervals of some datasets, by name.

    Raises:
        ArgumentError: An interval belongs to no set, or is not positive.
    """
    several = loaders if isinstance(loaders, Mapping) else {"": loaders}
    owned = evaluators if isinstance(loaders, Mapping) else {"": evaluators}
    check_intervals(intervals, several)
    sets = [EvaluationSet(name, each, owned[name], (intervals or {}).get(name)) for name, each in several.items()]
    for each in sets:
        each.evaluator.attach(getattr(each.dataloader, "dataset", None))
        for metric in each.evaluator.metrics:
            metric.set_name = each.name
    return sets


def holds_several(cfg: Any) -> bool:
    """Checks whether a dataloader section is a dict of loaders by name."""
    if not isinstance(cfg, Mapping) or not cfg or "dataset" in cfg:
        return False
    return all(
        "dataset" in each if isinstance(each, Mapping) else hasattr(each, "__iter__") and not isinstance(each, str)
        for each in cfg.values()
    )


class MeanLosses:
    """The mean losses over the samples of a validation. Sums stay on the device of the losses."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._count = 0

    def add(self, losses: Mapping[str, Any], count: int) -> None:
        """Adds the scalar mean losses of a batch of `count` samples. A repeated batch has a `count` of 0."""
        if not count:
            return
        self._count += count
        for name, value in losses.items():
            if "loss" in name:
                self._sums[name] = self._sums.get(name, 0) + value * count

    def result(self) -> dict[str, float]:
        """Returns the means over all processes."""
        parts = gather_objects(({name: float(value) for name, value in self._sums.items()}, self._count))
        total = sum(count for _, count in parts)
        names = dict.fromkeys(name for sums, _ in parts for name in sums)
        return {name: sum(sums.get(name, 0.0) for sums, _ in parts) / total for name in names}
