"""Evaluation by a data set's own `evaluate`."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from footplate.distributed import get_rank, get_world_size
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from footplate.legacy.model import Whole
from footplate.messages import nearest
from footplate.registry import METRICS

_logger = logging.getLogger("footplate")

# The first generation's names of metrics, and what computes them where the data set does not.
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
    """Asks the data set: `evaluate(results, metric=..., logger=..., ...)`, with what `evaluation` held.

    Results arrive as the model gave them, in the order of the data set. A data set without `evaluate` is measured
    by the metrics of these names.

    Args:
        metric: What `evaluate` is asked for, a name or several; names of metrics where there is no `evaluate`.
        pre_eval: Whether results go through the data set's `pre_eval` as they come, which keeps little of them.
        collect_device: As of every metric.
        options: Further arguments of `evaluate`.

    Raises:
        ArgumentError: The data set has no `evaluate`, and no metric has that name.
    """

    def __init__(self, metric: Any = None, pre_eval: bool = False, collect_device: Any = "cpu", **options: Any) -> None:
        super().__init__(collect_device=collect_device)
        self.metric = metric
        self.pre_eval = pre_eval
        self.options = options
        self._dataset: Any = None
        self._metrics: list[BaseMetric[Any]] = []

    def attach(self, dataset: Any) -> None:
        """Learns whom to ask."""
        self._dataset = dataset
        if hasattr(dataset, "evaluate"):
            self._metrics = []
            return
        self._metrics = self._build_named()
        for each in self._metrics:
            each.output_folder = self.output_folder
            each.attach(dataset)
            each.dataset_meta = self.dataset_meta

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keeps the results of a batch."""
        for each in self._metrics:
            each.process(data_batch, data_samples)
        if self._metrics:
            return
        if self.pre_eval and hasattr(self._dataset, "pre_eval"):
            first = get_rank() + len(self.results) * get_world_size()
            places = range(first, first + len(data_samples) * get_world_size(), get_world_size())
            self.results.extend(self._dataset.pre_eval(list(data_samples), indices=list(places)))
        else:
            self.results.extend(data_samples)

    def evaluate(self, size: int) -> dict[str, Any]:
        """Returns what the data set makes of all results."""
        if not self._metrics:
            return super().evaluate(size)
        values: dict[str, Any] = {}
        for each in self._metrics:
            values.update(each.evaluate(size))
        return values

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        """Asks the data set."""
        asked = {} if self.metric is None else {"metric": self.metric}
        found = self._dataset.evaluate(_joined(results), **asked, **self.options, logger=_logger)
        return dict(found)

    def _build_named(self) -> list[BaseMetric[Any]]:
        names = [self.metric] if isinstance(self.metric, str) else list(self.metric or ())
        known = {name: _METRICS[name] for name in names if name in _METRICS}
        missing = [name for name in names if name not in known]
        if missing or not names:
            raise ArgumentError(
                f"the data set '{type(self._dataset).__name__}' has no evaluate()",
                key="metric",
                found=self.metric,
                suggestion=nearest(missing[0], _METRICS) if missing else None,
                notes=[f"without one, metric is one of {', '.join(_METRICS)}"],
            )
        return [_build(cfg) for cfg in _merged(known.values())]


def _build(cfg: Mapping[str, Any]) -> BaseMetric[Any]:
    with at_key("metric"):
        built: BaseMetric[Any] = METRICS.build(cfg)
    return built


def _merged(cfgs: Any) -> list[dict[str, Any]]:
    """Joins the settings of metrics of one class: `iou_metrics=["mIoU", "mDice"]`."""
    by_type: dict[str, dict[str, Any]] = {}
    for cfg in cfgs:
        held = by_type.setdefault(cfg["type"], {"type": cfg["type"]})
        for key, value in cfg.items():
            if key != "type":
                values = [value] if isinstance(value, str) else list(value)
                held[key] = [*held.get(key, []), *values]
    return list(by_type.values())


def _joined(results: list[Any]) -> Any:
    """Puts results of whole batches together by name; a list of one result a sample stays as it is."""
    if not results or not all(isinstance(each, Whole) for each in results):
        return results
    return {name: np.concatenate([np.asarray(each[name]) for each in results]) for name in results[0]}
