"""Evaluation with the dataset's own `evaluate` method."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from footplate.distributed import get_rank, get_world_size
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from footplate.first_generation.adapters.model import BatchResult
from footplate.messages import nearest
from footplate.registry import METRICS

_logger = logging.getLogger("footplate")

# The first generation's metric names, and the metrics that compute them if the dataset does not.
_METRICS: dict[str, dict[str, Any]] = {
    "mIoU": {"type": "IoUMetric", "iou_metrics": ["mIoU"]},
    "mDice": {"type": "IoUMetric", "iou_metrics": ["mDice"]},
    "mFscore": {"type": "IoUMetric", "iou_metrics": ["mFscore"]},
    "bbox": {"type": "CocoMetric", "metric": "bbox"},
    "segm": {"type": "CocoMetric", "metric": "segm"},
    "accuracy": {"type": "Accuracy"},
}


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
        if hasattr(dataset, "evaluate"):
            self._metrics = []
            return
        self._metrics = self._build_metrics()
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
        metric = {} if self.metric is None else {"metric": self.metric}
        return dict(self._dataset.evaluate(_joined(results), **metric, **self.options, logger=_logger))

    def _build_metrics(self) -> list[BaseMetric[Any]]:
        names = [self.metric] if isinstance(self.metric, str) else list(self.metric or ())
        known = {name: _METRICS[name] for name in names if name in _METRICS}
        missing = [name for name in names if name not in known]
        if missing or not names:
            raise ArgumentError(
                f"the dataset '{type(self._dataset).__name__}' has no evaluate()",
                key="metric",
                found=self.metric,
                suggestion=nearest(missing[0], _METRICS) if missing else None,
                notes=[f"implement it, or set metric to one of {', '.join(_METRICS)}"],
            )
        return [_build(cfg) for cfg in _merged(known.values())]


def _build(cfg: Mapping[str, Any]) -> BaseMetric[Any]:
    with at_key("metric"):
        built: BaseMetric[Any] = METRICS.build(cfg)
    return built


def _merged(cfgs: Any) -> list[dict[str, Any]]:
    """Merges the settings of metrics of the same class, as in `iou_metrics=["mIoU", "mDice"]`."""
    by_type: dict[str, dict[str, Any]] = {}
    for cfg in cfgs:
        merged = by_type.setdefault(cfg["type"], {"type": cfg["type"]})
        for key, value in cfg.items():
            if key != "type":
                values = [value] if isinstance(value, str) else list(value)
                merged[key] = [*merged.get(key, []), *values]
    return list(by_type.values())


def _joined(results: list[Any]) -> Any:
    """Concatenates the results of whole batches by name; returns a list with one result per sample unchanged."""
    if not results or not all(isinstance(each, BatchResult) for each in results):
        return results
    return {name: np.concatenate([np.asarray(each[name]) for each in results]) for name in results[0]}
