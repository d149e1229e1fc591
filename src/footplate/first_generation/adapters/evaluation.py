"""First-generation evaluation: datasets with `evaluate`, and the metric that calls it."""

import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from footplate.config import ConfigDict
from footplate.distributed import get_data_rank, get_data_world_size
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from footplate.first_generation.adapters.model import BatchResult
from footplate.messages import nearest
from footplate.registry import DATASETS, METRICS

_META = {"CLASSES": "classes", "PALETTE": "palette"}


def adapt_dataset(dataset: Any, test_mode: bool = False) -> Any:
    """Adds `metainfo` to a dataset that only has `CLASSES` and `PALETTE`, and returns the dataset.

    Args:
        dataset: A dataset or its config.
        test_mode: Whether to build the dataset, and nested datasets, with `test_mode=True` if their class has this
            argument.
    """
    if isinstance(dataset, Mapping):
        # A code base may have its own way to build datasets, in particular those that wrap others.
        with at_key("dataset"), DATASETS.switch_scope_and_registry(None) as registry:
            dataset = registry.build(_in_test_mode(dataset) if test_mode else dataset)
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
    if "test_mode" in changed:
        return changed
    kind = DATASETS.resolve(changed.get("type"), changed)
    constructors: list[Any] = [kind]
    if inspect.isclass(kind):  # with `**kwargs`, the constructor of a base class may accept `test_mode`
        constructors = [vars(each)["__init__"] for each in kind.__mro__[:-1] if "__init__" in vars(each)]
    for constructor in constructors:
        parameters = inspect.signature(constructor).parameters
        if "test_mode" in parameters:
            changed["test_mode"] = True
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return changed


_logger = logging.getLogger("footplate")

_METRICS = {
    "mIoU": ("IoUMetric", "iou_metrics"),
    "mDice": ("IoUMetric", "iou_metrics"),
    "mFscore": ("IoUMetric", "iou_metrics"),
    "bbox": ("CocoMetric", "metric"),
    "segm": ("CocoMetric", "metric"),
    "accuracy": ("Accuracy", None),
}
"""For datasets without `evaluate`: maps each metric to the class that computes it and the argument that selects it."""


@METRICS.register_module()
class LegacyMetric(BaseMetric[Any]):
    """Calls the dataset's `evaluate(results, metric=..., logger=..., ...)` with the settings of `evaluation`.

    `results` contains the predictions of the model in dataset order. If the dataset has no `evaluate`, the metrics
    whose names are given in `metric` are computed.

    Args:
        metric: The `metric` argument of `evaluate`, or the names of metrics for a dataset without `evaluate`.
        pre_eval: Whether to pass the results of each batch through the dataset's `pre_eval` to save memory.
        collect_device: See BaseMetric.
        options: Additional keyword arguments for `evaluate`.

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
        self._dataset, self._metrics = dataset, []
        if hasattr(dataset, "evaluate"):
            return
        names = [self.metric] if isinstance(self.metric, str) else list(self.metric or ())
        missing = [name for name in names if name not in _METRICS]
        if missing or not names:
            raise ArgumentError(
                f"the dataset '{type(dataset).__name__}' has no evaluate()",
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
            self._metrics = [METRICS.build(cfg) for cfg in cfgs.values()]
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
            first = get_data_rank() + len(self.results) * get_data_world_size()
            indices = range(first, first + len(data_samples) * get_data_world_size(), get_data_world_size())
            found = self._dataset.pre_eval(list(data_samples), indices=list(indices))
            # Datasets of depth estimation also return the predictions.
            self.results.extend(found[0] if isinstance(found, tuple) else found)
        else:
            self.results.extend(map(_encode_masks, data_samples))

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
        joined: Any = results
        # Datasets of MMPose take a list with the results of each batch. Other datasets take one dict of results.
        is_mmpose = any(kind.__module__.startswith("mmpose.") for kind in type(self._dataset).__mro__)
        if results and not is_mmpose and all(isinstance(each, BatchResult) for each in results):
            joined = {name: np.concatenate([np.asarray(each[name]) for each in results]) for name in results[0]}
        metric = {} if self.metric is None else {"metric": self.metric}
        return dict(self._dataset.evaluate(joined, **metric, **self.options, logger=_logger))


def _encode_masks(result: Any) -> Any:
    """Encodes the masks in an MMDetection result `(boxes, masks)`, like MMDetection's test functions."""
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], (list, tuple))):
        return result
    boxes, masks = result
    has_scores = isinstance(masks, tuple)
    by_class = masks[0] if has_scores else masks
    if not all(isinstance(mask, np.ndarray) for of_class in by_class for mask in of_class):
        return result
    coco_masks = importlib.import_module("pycocotools.mask")  # MMDetection needs it, too
    encoded = [
        [coco_masks.encode(np.asfortranarray(mask[:, :, None], np.uint8))[0] for mask in of_class]
        for of_class in by_class
    ]
    return boxes, (encoded, *masks[1:]) if has_scores else encoded
