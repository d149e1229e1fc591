"""First-generation evaluation: datasets with `evaluate`, the metric that calls it, and the evaluation hook."""

import bisect
import inspect
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from footplate.checks import check_count
from footplate.config import ConfigDict
from footplate.distributed import get_rank, get_world_size
from footplate.engine import Hook, ValLoop
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from footplate.first_generation.adapters.model import BatchResult
from footplate.messages import nearest
from footplate.registry import DATASETS, HOOKS, METRICS

if TYPE_CHECKING:
    from footplate.engine import Runner

_META = {"CLASSES": "classes", "PALETTE": "palette"}


def adapt_dataset(dataset: Any, test_mode: bool = False) -> Any:
    """Adds `metainfo` to a dataset that only has `CLASSES` and `PALETTE`, and returns the dataset.

    Args:
        dataset: A dataset or its config.
        test_mode: Whether to build the dataset, and nested datasets, with `test_mode=True` if their class has this
            argument.
    """
    if isinstance(dataset, Mapping):
        with at_key("dataset"):
            dataset = DATASETS.build(_in_test_mode(dataset) if test_mode else dataset)
    known = {new: getattr(dataset, old) for old, new in _META.items() if getattr(dataset, old, None) is not None}
    if known and not hasattr(dataset, "metainfo"):
        dataset.metainfo = known
    return dataset


DATASETS.register_module(name="LegacyDataset", module=adapt_dataset)


def _in_test_mode(cfg: Any) -> Any:
    if isinstance(cfg, (list, tuple)):
        return [_in_test_mode(each) for each in cfg]
    if not isinstance(cfg, Mapping):
        return cfg
    changed = ConfigDict(cfg)
    for key in ("dataset", "datasets"):
        if key in changed:
            changed[key] = _in_test_mode(changed[key])
    if "test_mode" not in changed and _accepts_test_mode(DATASETS.resolve(changed.get("type"), changed)):
        changed["test_mode"] = True
    return changed


def _accepts_test_mode(kind: Any) -> bool:
    """Checks whether a class or, through `**kwargs`, one of its base classes accepts `test_mode`."""
    if not inspect.isclass(kind):
        return "test_mode" in inspect.signature(kind).parameters
    for each in kind.__mro__:
        constructor = vars(each).get("__init__")
        if constructor is None or each is object:
            continue
        parameters = inspect.signature(constructor).parameters
        if "test_mode" in parameters:
            return True
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            return False
    return False


_logger = logging.getLogger("footplate")

_METRICS = {
    "mIoU": ("IoUMetric", "iou_metrics"),
    "mDice": ("IoUMetric", "iou_metrics"),
    "mFscore": ("IoUMetric", "iou_metrics"),
    "bbox": ("CocoMetric", "metric"),
    "segm": ("CocoMetric", "metric"),
    "accuracy": ("Accuracy", None),
}
"""For a dataset without `evaluate`: the metric that computes each value, and its argument that lists the values."""


@METRICS.register_module()
class LegacyMetric(BaseMetric[Any]):
    """Calls the dataset's `evaluate(results, metric=..., logger=..., ...)` with the settings of `evaluation`.

    The results are those of the model, in the order of the dataset. For a dataset without `evaluate`, the metrics of
    the given names are computed.

    Args:
        metric: The `metric` argument of `evaluate`, or the names of metrics for a dataset without `evaluate`.
        pre_eval: Whether to pass the results of each batch through the dataset's `pre_eval`, which saves memory.
        collect_device: See BaseMetric.
        options: Further arguments of `evaluate`.

    Raises:
        ArgumentError: The dataset has no `evaluate`, and no metric has the given name.
    """

    def __init__(self, metric: Any = None, pre_eval: bool = False, collect_device: Any = "cpu", **options: Any) -> None:
        super().__init__(collect_device=collect_device)
        self.metric = metric
        self.pre_eval = pre_eval
        self.options = options
        self._dataset: Any = None
        self._metrics: list[BaseMetric[Any]] = []

    def attach(self, dataset: Any) -> None:
        """Sets the dataset, and builds metrics if it has no `evaluate`."""
        self._dataset = dataset
        self._metrics = [] if hasattr(dataset, "evaluate") else self._build_metrics()
        for each in self._metrics:
            each.attach(dataset)
            each.dataset_meta = self.dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Stores the results of a batch."""
        for each in self._metrics:
            each.process(data_batch, data_samples)
        if self._metrics:
            return
        if self.pre_eval and hasattr(self._dataset, "pre_eval"):
            first = get_rank() + len(self.results) * get_world_size()
            indices = range(first, first + len(data_samples) * get_world_size(), get_world_size())
            self.results.extend(self._dataset.pre_eval(list(data_samples), indices=list(indices)))
        else:
            self.results.extend(data_samples)

    def evaluate(self, size: int) -> dict[str, Any]:
        """Computes the metrics from the results of all processes."""
        if not self._metrics:
            return super().evaluate(size)
        values: dict[str, Any] = {}
        for each in self._metrics:
            each.context = self.context
            values.update(each.evaluate(size))
        return values

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        """Calls the dataset's `evaluate`."""
        # Results of whole batches are concatenated by name.
        if results and all(isinstance(each, BatchResult) for each in results):
            joined: Any = {name: np.concatenate([np.asarray(each[name]) for each in results]) for name in results[0]}
        else:
            joined = results
        metric = {} if self.metric is None else {"metric": self.metric}
        return dict(self._dataset.evaluate(joined, **metric, **self.options, logger=_logger))

    def _build_metrics(self) -> list[BaseMetric[Any]]:
        names = [self.metric] if isinstance(self.metric, str) else list(self.metric or ())
        missing = [name for name in names if name not in _METRICS]
        if missing or not names:
            raise ArgumentError(
                f"the dataset '{type(self._dataset).__name__}' has no evaluate()",
                key="metric",
                found=self.metric,
                suggestion=nearest(missing[0], _METRICS) if missing else None,
                notes=[f"Implement it, or set metric to one of {', '.join(_METRICS)}."],
            )
        cfgs: dict[str, dict[str, Any]] = {}
        for name in names:
            kind, argument = _METRICS[name]
            cfg = cfgs.setdefault(kind, {"type": kind})
            if argument is not None:
                cfg.setdefault(argument, []).append(name)
        with at_key("metric"):
            return [METRICS.build(cfg) for cfg in cfgs.values()]


@HOOKS.register_module(name=["EvalHook", "DistEvalHook"])
class EvalHook(Hook):
    """Validates every `interval` epochs or iterations, counted from `start`.

    Args:
        dataloader: The validation data. By default, the validation loop of the config is used.
        start: The first epoch or iteration after which to validate; 0 also validates before training.
        interval: The number of epochs or iterations between two validations.
        by_epoch: Whether `interval` and `start` are in epochs.
        save_best: A metric, or "auto"; the best checkpoint by this metric is kept.
        rule: "greater" or "less".
        greater_keys: Substrings of metric names for which higher is better.
        less_keys: Substrings of metric names for which lower is better.
        out_dir: Another folder for the best checkpoint.
        dynamic_intervals: `[(milestone, interval), ...]`: the interval from each epoch or iteration on.
        gpu_collect: Whether to collect results with the accelerators.
        tmpdir: Ignored; results are collected with the process group.
        broadcast_bn_buffer: Ignored; validation always uses the buffers of rank 0.
        evaluation: Arguments of the dataset's `evaluate`, if `dataloader` is given.

    Raises:
        ArgumentError: `interval` or `start` is invalid.
    """

    priority = "LOW"
    asks_for_validation = True

    def __init__(
        self,
        dataloader: Any = None,
        start: int | None = None,
        interval: int = 1,
        by_epoch: bool = True,
        save_best: str | None = None,
        rule: str | None = None,
        greater_keys: Sequence[str] | None = None,
        less_keys: Sequence[str] | None = None,
        out_dir: str | None = None,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        *,
        gpu_collect: bool = False,
        tmpdir: str | None = None,
        broadcast_bn_buffer: bool = True,
        **evaluation: Any,
    ) -> None:
        for name, value, least in (("interval", interval, 1), ("start", start, 0)):
            if value is not None:
                check_count(name, value, least=least)
        self.dataloader, self.evaluation = dataloader, evaluation
        self.collect_device = "gpu" if gpu_collect else "cpu"
        self.start, self.by_epoch = start, by_epoch
        self.interval = interval
        self._milestones = [0, *(milestone for milestone, _ in dynamic_intervals or ())]
        self._intervals = [interval, *(each for _, each in dynamic_intervals or ())]
        best = {"save_best": save_best, "rule": rule, "greater_keys": greater_keys, "less_keys": less_keys}
        self._best: dict[str, Any] = {**best, "out_dir": out_dir}

    def before_run(self, runner: "Runner") -> None:
        """Replaces the validation loop and registers a hook for the best checkpoint, if configured."""
        if self.dataloader is not None:
            loop = ValLoop(runner, self.dataloader, LegacyMetric(collect_device=self.collect_device, **self.evaluation))
            runner.val_loop = loop
        if self._best["save_best"]:
            saver = {"type": "CheckpointHook", "interval": -1, "save_last": False, "by_epoch": self.by_epoch}
            runner.register_hook({**saver, **self._best})

    def before_train(self, runner: "Runner") -> None:
        """Disables the loop's own validation interval, and requests a validation first if `start` is 0."""
        runner.train_loop.val_begin = sys.maxsize
        if self.start == 0 and runner.iter == 0 and self._is_due(1):
            runner.train_loop.validation_requested = True

    def after_train_epoch(self, runner: "Runner") -> None:
        """Requests a validation if one is due and `by_epoch` is set."""
        if self.by_epoch and runner.train_loop.by_epoch and self._is_due(runner.epoch + 1):
            runner.train_loop.validation_requested = True

    def after_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Requests a validation if one is due and `by_epoch` is not set."""
        if not self.by_epoch and self._is_due(runner.iter + 1):
            runner.train_loop.validation_requested = True

    def _is_due(self, done: int) -> bool:
        interval = self._intervals[bisect.bisect(self._milestones, done) - 1]
        start = self.start or 0
        return done >= start and (done - start) % interval == 0
