"""The evaluator, which computes several metrics in one pass over a dataset."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from footplate.data.structures import BaseDataElement
from footplate.error_context import at_key
from footplate.errors import ArgumentError, FootplateError
from footplate.evaluation.metric import BaseMetric
from footplate.evaluation.metric_functions import as_metric, is_named
from footplate.registry import EVALUATOR


class Evaluator:
    """Passes the predictions for each batch to all metrics and merges their values.

    Args:
        metrics: One metric or a list of metrics. A metric is a BaseMetric, a dict for METRICS, a function of
            (predictions, batch), or an object with the torchmetrics API. A dict can map names to functions and such
            objects.
    """

    key = ""  # the config section of the evaluator, for error messages
    _is_list = False

    def __init__(self, metrics: Any) -> None:
        named = metrics if is_named(metrics) else {}
        configs = list(metrics) if isinstance(metrics, Sequence) or named else [metrics]
        self._is_list = isinstance(metrics, Sequence)
        self.metrics: list[BaseMetric[Any]] = []
        for index, each in enumerate(configs):
            with at_key(self._metric_key(index)):
                self.metrics.append(as_metric(named[each], each) if named else as_metric(each))
        self._dataset_meta: Mapping[str, Any] | None = None

    @property
    def dataset_meta(self) -> Mapping[str, Any] | None:
        """The metainfo of the dataset. Setting it also sets it on all metrics."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Mapping[str, Any] | None) -> None:
        self._dataset_meta = dataset_meta
        for metric in self.metrics:
            metric.dataset_meta = dataset_meta

    def attach(self, dataset: Any) -> None:
        """Passes the dataset and its metainfo to all metrics."""
        metainfo = getattr(dataset, "metainfo", None)
        if metainfo is not None:
            self.dataset_meta = metainfo
        for metric in self.metrics:
            metric.attach(dataset)

    def set_context(self, **changes: Any) -> None:
        """Changes fields of the `EvaluationContext` of all metrics."""
        for metric in self.metrics:
            metric.context = metric.context._replace(**changes)

    def process(self, data_samples: Sequence[Any], data_batch: Any = None) -> None:
        """Passes the predictions for a batch, one per sample, to all metrics. Data elements are converted to dicts."""
        if data_samples is None and self.metrics:
            raise ArgumentError(
                "the metrics need predictions, but the model returns none",
                key=self.key,
                notes=["Pass validation_step=..., a function of the model and the batch, next to training_step."],
            )
        samples: list[Any] = []
        if not all(each.takes_whole_batches for each in self.metrics):
            if not isinstance(data_samples, Iterable):
                message = "a model in mode 'predict' must return a list with one prediction per sample"
                raise ArgumentError(message, found=type(data_samples))
            samples = [each.to_dict() if isinstance(each, BaseDataElement) else each for each in data_samples]
        try:
            for metric in self.metrics:
                metric.process(data_batch, data_samples if metric.takes_whole_batches else samples)
        except FootplateError:  # the key is added only on failure, since this method runs for each batch
            with at_key(self._metric_key(self.metrics.index(metric))):
                raise

    def evaluate(self, size: int) -> dict[str, Any]:
        """Returns the values of all metrics as one dict, for a dataset of `size` samples.

        Raises:
            ArgumentError: Two metrics return values with the same name.
        """
        values: dict[str, Any] = {}
        for index, metric in enumerate(self.metrics):
            with at_key(self._metric_key(index)):
                found = metric.evaluate(size)
            for name, value in found.items():
                if name in values:
                    raise ArgumentError(
                        f"two metrics return values named '{name}'",
                        key=self._metric_key(index),
                        notes=[metric.rename_advice],
                    )
                values[name] = value
        return values

    def offline_evaluate(
        self, data_samples: Sequence[Any], data: Sequence[Any] | None = None, chunk_size: int = 1
    ) -> dict[str, Any]:
        """Computes all metrics from existing predictions and returns a dict of their values.

        Args:
            data_samples: The predictions, one per sample.
            data: The inputs, one per sample.
            chunk_size: The number of samples to pass to the metrics at a time.

        Raises:
            ArgumentError: `data_samples` and `data` differ in length.
        """
        if data is not None and len(data) != len(data_samples):
            raise ArgumentError(
                f"data_samples and data must have the same length, but have {len(data_samples)} and {len(data)}"
            )
        size = len(data_samples)
        samples, inputs = iter(data_samples), iter(() if data is None else data)  # not every dataset supports slices
        for start in range(0, size, chunk_size):
            count = min(chunk_size, size - start)
            self.process(list(islice(samples, count)), None if data is None else list(islice(inputs, count)))
        return self.evaluate(size)

    def _metric_key(self, index: int) -> str:
        return f"{self.key}[{index}]" if self._is_list else self.key


EVALUATOR.register_module(module=Evaluator)  # not a decorator: the registry checks for subclasses of Evaluator


def build_evaluator(cfg: Any) -> Evaluator:
    """Builds the evaluator of a `val_evaluator` or `test_evaluator` section.

    Args:
        cfg: An Evaluator, a value for its argument `metrics`, or `dict(metrics=[...])`. The dict needs a `type` only
            for a different evaluator class.

    Raises:
        ArgumentError: `cfg` is none of these.
    """
    if isinstance(cfg, Mapping) and "metrics" in cfg:
        built: Evaluator = EVALUATOR.build(cfg, default_args={"type": Evaluator})
        return built
    if isinstance(cfg, Mapping) and "type" not in cfg and not is_named(cfg):
        raise ArgumentError("the config of an evaluator must contain the 'type' of a metric", found=dict(cfg))
    if isinstance(cfg, Evaluator):
        return cfg
    if cfg is None or isinstance(cfg, (str, int, float)):
        raise ArgumentError("an evaluator must be a metric, a list of metrics, or an Evaluator", found=cfg)
    return Evaluator(cfg)
