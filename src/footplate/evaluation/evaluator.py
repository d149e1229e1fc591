"""The evaluator: several metrics over one pass."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.evaluation.metric import BaseMetric
from footplate.registry import EVALUATOR, METRICS
from footplate.structures import BaseDataElement


class Evaluator:
    """Feeds metrics with what a model made of each batch, and puts their values together.

    Args:
        metrics: A metric, or several; each an object or a dict for METRICS.
    """

    key = ""  # The section of the config that describes it, which errors of its metrics name.
    _is_list = False

    def __init__(
        self, metrics: BaseMetric[Any] | Mapping[str, Any] | Sequence[BaseMetric[Any] | Mapping[str, Any]]
    ) -> None:
        several = list(metrics) if isinstance(metrics, Sequence) else [metrics]
        self._is_list = isinstance(metrics, Sequence)
        self.metrics: list[BaseMetric[Any]] = []
        for place, each in enumerate(several):
            with at_key(self._key_of(place)):
                self.metrics.append(each if isinstance(each, BaseMetric) else METRICS.build(each))
        self._dataset_meta: Mapping[str, Any] | None = None

    @property
    def dataset_meta(self) -> Mapping[str, Any] | None:
        """What is known about the data set; setting it tells every metric."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Mapping[str, Any] | None) -> None:
        self._dataset_meta = dataset_meta
        for metric in self.metrics:
            metric.dataset_meta = dataset_meta

    def attach(self, dataset: Any) -> None:
        """Tells every metric which data set is evaluated, and what is known about it."""
        metainfo = getattr(dataset, "metainfo", None)
        if metainfo is not None:
            self.dataset_meta = metainfo
        for metric in self.metrics:
            metric.attach(dataset)

    def write_to(self, folder: str) -> None:
        """Sets the folder in which metrics write their files."""
        for metric in self.metrics:
            metric.output_folder = folder

    def process(self, data_samples: Sequence[Any], data_batch: Any = None) -> None:
        """Shows every metric one batch.

        Args:
            data_samples: What the model made of the batch; metrics see data elements as dicts.
            data_batch: What the loader gave.

        Raises:
            ArgumentError: They are nothing to go through.
        """
        if not isinstance(data_samples, Iterable):
            raise ArgumentError(
                "a model in mode 'predict' returns a list, one prediction a sample", found=type(data_samples)
            )
        samples = [sample.to_dict() if isinstance(sample, BaseDataElement) else sample for sample in data_samples]
        for place, metric in enumerate(self.metrics):
            with at_key(self._key_of(place)):
                metric.process(data_batch, samples)

    def evaluate(self, size: int) -> dict[str, Any]:
        """Returns the values of all metrics by name.

        Args:
            size: The number of samples in the data set.

        Raises:
            ArgumentError: Two metrics give a value of the same name.
        """
        values: dict[str, Any] = {}
        for place, metric in enumerate(self.metrics):
            with at_key(self._key_of(place)):
                found = metric.evaluate(size)
            for name, value in found.items():
                if name in values:
                    raise ArgumentError(
                        f"two metrics give a value named '{name}'",
                        key=self._key_of(place),
                        notes=["prefix='...' keeps the values of metrics of one kind apart"],
                    )
                values[name] = value
        return values

    def offline_evaluate(
        self, data_samples: Sequence[Any], data: Sequence[Any] | None = None, chunk_size: int = 1
    ) -> dict[str, Any]:
        """Returns the values for predictions that were made before.

        Args:
            data_samples: One prediction a sample.
            data: What the model had seen, one entry a sample.
            chunk_size: How many samples are shown to the metrics at a time.

        Raises:
            ArgumentError: The two differ in length.
        """
        if data is not None and len(data) != len(data_samples):
            raise ArgumentError(f"{len(data_samples)} predictions cannot belong to {len(data)} samples")
        given = _chunks(data if data is not None else [None] * len(data_samples), chunk_size)
        for samples, batch in zip(_chunks(data_samples, chunk_size), given, strict=True):
            self.process(samples, batch if data is not None else None)
        return self.evaluate(len(data_samples))

    def _key_of(self, place: int) -> str:
        return f"{self.key}[{place}]" if self._is_list else self.key


EVALUATOR.register_module(module=Evaluator)  # not as a decorator: the registry takes subclasses of Evaluator


def build_evaluator(cfg: Evaluator | Mapping[str, Any] | Sequence[Any]) -> Evaluator:
    """Returns the evaluator that `val_evaluator` or `test_evaluator` describes.

    Args:
        cfg: An Evaluator; a dict for METRICS or a list of them; or `dict(metrics=[...])`, with the `type` of
            an evaluator where it is not the usual one.

    Raises:
        ArgumentError: It is none of these.
    """
    if isinstance(cfg, Mapping) and "metrics" in cfg:
        built: Evaluator = EVALUATOR.build(cfg, default_args={"type": Evaluator})
        return built
    if isinstance(cfg, Mapping) and "type" not in cfg:
        raise ArgumentError("an evaluator needs the 'type' of a metric", found=dict(cfg))
    if isinstance(cfg, (Mapping, BaseMetric)) or (isinstance(cfg, Sequence) and not isinstance(cfg, str)):
        return Evaluator(cfg)
    if isinstance(cfg, Evaluator):
        return cfg
    raise ArgumentError("an evaluator is a metric, a list of metrics, or an Evaluator", found=cfg)


def _chunks(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk
