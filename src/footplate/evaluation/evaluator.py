"""Defines the evaluator. Converts functions and torchmetrics-style objects to metrics."""

import copy
import logging
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice, zip_longest
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from footplate.checks import check_accepts, check_score, check_takes
from footplate.data import count_samples, split_target
from footplate.data.batch_contents import describe, scores_of
from footplate.data.collation import pseudo_collate
from footplate.data.data_element import BaseDataElement
from footplate.distributed import gather_objects, get_world_size
from footplate.error_context import add_note, at_key, walk_paths
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.evaluation.metric import BaseMetric, to_device
from footplate.messages import nearest
from footplate.registry import EVALUATOR, METRICS
from footplate.storage import check_output_path
from footplate.weighted import EmptyMean, Sum, Weighted, refuse_pair

_logger = logging.getLogger("footplate")


class Evaluator:
    """Passes the predictions for each batch to all metrics, and merges the metric values.

    Args:
        metrics: A metric or a list of metrics. A metric is a BaseMetric, a dict for METRICS, a function of
            (predictions, batch), or an object with the torchmetrics API. You can also pass functions and
            torchmetrics-style objects as a dict, keyed by name.
    """

    key = ""  # the evaluator's config section, for error messages; set by the loop

    def __init__(self, metrics: Any) -> None:
        self._is_list = isinstance(metrics, Sequence)
        self.names = list(metrics) if is_named(metrics) else []
        """The metric names, if `metrics` is a dict of functions and objects."""
        parts = metrics if self._is_list else [metrics]
        if self.names:
            parts = metrics.values()
        self.metrics: list[BaseMetric[Any]] = []
        for index, (part, name) in enumerate(zip_longest(parts, self.names)):
            with at_key(self.metric_key(index)):
                metric = as_metric(part, name)
                if type(metric).evaluate is BaseMetric.evaluate:  # otherwise, the metric calls these methods
                    check_accepts(metric, "process", ("data_batch", "data_samples"))
                    check_accepts(metric, "compute_metrics", ("results",))
                self.metrics.append(metric)
        self._dataset_meta: Mapping[str, Any] | None = None

    @property
    def dataset_meta(self) -> Mapping[str, Any] | None:
        """The dataset's metainfo. Assigning it also updates all metrics."""
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
        """Updates fields of the `EvaluationContext` in all metrics."""
        for metric in self.metrics:
            metric.context = metric.context._replace(**changes)

    def reset(self) -> None:
        """Discards the results of all metrics. Loops call this before each evaluation."""
        for metric in self.metrics:
            metric.reset()

    def process(self, data_samples: Sequence[Any], data_batch: Any = None) -> None:
        """Passes the predictions for a batch, one per sample, to all metrics.

        Data elements are converted to dicts, except for metrics that take whole batches. Raises an ArgumentError if
        `data_samples` is None although there are metrics.
        """
        if data_samples is None and self.metrics:
            raise ArgumentError(
                "the metrics need predictions, but the model does not return any",
                key=self.key,
                notes=[
                    "Return predictions from validation_step or, in a BaseModel, in mode 'predict'. If you pass "
                    "training_step, also pass validation_step."
                ],
            )
        samples: Any = None
        for index, metric in enumerate(self.metrics):
            if not metric.takes_whole_batches and samples is None:
                samples = _as_dicts(data_samples)
            with self._locating(index):
                metric.process(data_batch, data_samples if metric.takes_whole_batches else samples)
                metric.has_processed = True

    def evaluate(self, size: int) -> dict[str, Any]:
        """Computes all metrics for a dataset of `size` samples, and returns their values in a single dict.

        Names include the metric's prefix. If there are several datasets, the loop adds the name of the dataset.

        Raises:
            ArgumentError: Two metrics return values with the same name.
        """
        values: dict[str, Any] = {}
        for index, metric in enumerate(self.metrics):
            with self._locating(index):
                results = metric.evaluate(size)
                if same := sorted(results.keys() & values.keys()):
                    raise ArgumentError(f"two metrics return values named '{same[0]}'", notes=[metric.rename_advice])
            values.update(results)
        return values

    def offline_evaluate(
        self, data_samples: Iterable[Any], data: Iterable[Any] | None = None, chunk_size: int = 1
    ) -> dict[str, Any]:
        """Computes all metrics from existing predictions, and returns a dict of their values.

        Args:
            data_samples: The predictions, one per sample. A generator is read in chunks.
            data: The inputs, one per sample. The metrics receive them as `pseudo_collate` collates them.
            chunk_size: The number of samples to pass to the metrics at a time.

        Raises:
            ArgumentError: `data_samples` and `data` differ in length.
        """
        both: tuple[Any, Any] = (data_samples, data)
        lengths = [len(items) for items in both if isinstance(items, Sized)]
        if len(set(lengths)) > 1:
            raise ArgumentError(f"data_samples and data have different lengths: {lengths[0]} and {lengths[1]}")
        samples, inputs = iter(data_samples), None if data is None else iter(data)
        size = 0
        self.reset()
        while chunk := list(islice(samples, chunk_size)):
            self.process(chunk, None if inputs is None else pseudo_collate(list(islice(inputs, len(chunk)))))
            size += len(chunk)
        return self.evaluate(size)

    def metric_key(self, index: int) -> str:
        """Returns the config key of the metric at `index`."""
        if self._is_list:
            return f"{self.key}[{index}]"
        return ".".join(filter(None, [self.key, *self.names[index : index + 1]]))

    @contextmanager
    def _locating(self, index: int) -> Iterator[None]:
        """Adds the config key of the metric at `index` to errors in the block: to their key, or else as a note."""
        key = self.metric_key(index)
        try:
            with at_key(key):
                yield
        except Exception as error:
            if not isinstance(error, FootplateError):
                add_note(error, f"raised by the metric {key or self.metrics[index]._label}")
            raise


def _as_dicts(data_samples: Any) -> list[Any]:
    """Returns the predictions for a batch, with data elements converted to dicts."""
    if not hasattr(data_samples, "__iter__"):
        message = "in mode 'predict', a model must return a list with one prediction per sample"
        raise ArgumentError(message, found=type(data_samples))
    return [sample.to_dict() if isinstance(sample, BaseDataElement) else sample for sample in data_samples]


EVALUATOR.register_module(module=Evaluator)  # not a decorator, because the registry checks for subclasses of Evaluator


def build_evaluator(cfg: Any) -> Evaluator:
    """Builds an evaluator from a `val_evaluator` or `test_evaluator` section, which has one of these forms:

    | section | evaluator |
    |---|---|
    | a metric, in one of the forms that `Evaluator` lists | has this metric |
    | a list of metrics, possibly empty | has these metrics |
    | a dict of functions and objects, keyed by name (see `is_named`) | has these metrics, with the names |
    | `dict(metrics=...)` with one of the values above | the same; `type` may be a subclass of Evaluator |
    | an Evaluator | the object itself |

    For several datasets, a section may also be a dict of such sections, keyed by dataset name; see `map_evaluators`.
    `check_evaluator` in `engine/plan/arguments.py` checks a section without building it.

    Raises:
        ArgumentError: `cfg` has another form.
    """
    if isinstance(cfg, Mapping) and "metrics" in cfg:
        return EVALUATOR.build(cfg, default_args={"type": Evaluator})  # type: ignore[no-any-return]
    if isinstance(cfg, Mapping) and "type" not in cfg and not is_named(cfg):
        raise ArgumentError("an evaluator config must contain the 'type' of a metric", found=dict(cfg))
    if isinstance(cfg, Evaluator):
        return cfg
    if cfg is None or isinstance(cfg, (str, int, float)):
        raise ArgumentError("an evaluator must be a metric, a list of metrics, or an Evaluator", found=cfg)
    return Evaluator(cfg)


class NamedMetric(BaseMetric[Any]):
    """Base class for metrics that pass whole batches to a user's function or object.

    Args:
        usual_name: The default name, i.e. the name of the function or class.
        name: The name set by the user, or None.
    """

    takes_whole_batches = True
    rename_advice = "Pass the metrics as a dict, keyed by name: val_evaluator={'first': ..., 'second': ...}."

    def __init__(self, usual_name: str, name: str | None) -> None:
        super().__init__()
        self.usual_name = usual_name
        self.name = name

    @property
    def _label(self) -> str:
        """The metric's name in messages."""
        return self.name or self.usual_name

    def named_values(self, values: Any) -> dict[str, Any]:
        """Converts the metric's result, which is one value or a dict of values, to a dict keyed by full metric name.

        Raises:
            ArgumentError: A value is a pair of numbers.
        """
        for value in values.values() if isinstance(values, Mapping) else [values]:
            refuse_pair(value, f"the metric '{self._label}'")
        if not isinstance(values, Mapping):
            return {self._label: values}
        return {f"{self.name}/{key}" if self.name is not None else str(key): value for key, value in values.items()}

    def named_numbers(self, values: Any) -> dict[str, float]:
        """Converts the metric's result, which is a number or a dict of numbers, to a dict keyed by full metric name.

        Raises:
            ArgumentError: A value is not a number.
        """
        return {key: check_score(key, value, key="") for key, value in self.named_values(values).items()}


class FunctionMetric(NamedMetric):
    """Averages a function's values over all samples. The value for each batch is weighted by the batch size.

    Args:
        function: A function that takes the predictions and the batch, both on the predictions' device, and returns a
            number or a dict of numbers. A number may be `Weighted` or a `Sum`.
        name: The name of the returned number, or the prefix for the keys of the returned dict. By default, a number is
            named after the function, and a dict's keys have no prefix.

    Raises:
        ArgumentError: A lambda has no name, or the function does not accept two arguments.
    """

    def __init__(self, function: Callable[[Any, Any], Any], name: str | None = None) -> None:
        super().__init__(getattr(function, "__name__", type(function).__name__), name)
        self.function = function
        if self._label == "<lambda>":
            raise ArgumentError(
                "a lambda needs a name to be used as a metric",
                notes=["Pass a dict, as in val_evaluator={'accuracy': ...}."],
            )
        check_takes(f"the metric '{self._label}' must be a function of", function, "predictions", "batch")

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Computes the values for a batch. Appends an entry for each sample, with an equal share of the batch's weight.

        An entry contains a tuple of a value and its weight for each name. The weight of a sum is None.
        """
        batch = to_device(data_batch, device_of(data_samples))
        count = count_samples(data_batch, data_samples)
        try:
            output = self.function(data_samples, batch)
        except Exception as error:
            inputs = f"predictions={str(describe(data_samples)):.160}, batch={str(describe(batch)):.160}"
            add_note(error, f"Called with {inputs}. The batch is the whole batch, not the target.")
            raise
        values = self.named_values(output)
        self.results += [{name: _share(name, value, count) for name, value in values.items()}] * count

    def compute_metrics(self, results: list[dict[str, tuple[float, float | None]]]) -> dict[str, float]:
        """Returns a dict of the means and sums."""
        names = dict.fromkeys(chain.from_iterable(results))
        return {name: _combine([result[name] for result in results if name in result]) for name in names}


def _share(name: str, value: Any, count: int) -> tuple[float, float | None]:
    """Returns the value and the weight of one of the `count` samples of a batch. The weight of a sum is None."""
    if isinstance(value, Sum):
        return check_score(name, value.value, key="") / max(count, 1), None
    if isinstance(value, Weighted):
        mean, weight = Weighted(*(check_score(name, part, key="") for part in value))  # checks the weight
        return mean, weight / max(count, 1)
    return check_score(name, value, key=""), 1.0


def _combine(shares: Sequence[tuple[float, float | None]]) -> float:
    """Returns the mean of values by weight, or their sum if they have no weights."""
    weights = [weight for _, weight in shares if weight is not None]
    if not weights:
        return total_of([value for value, _ in shares])
    total = total_of([value * weight for value, weight in shares if weight])
    return total / total_of(weights) if any(weights) else EmptyMean("nan")


class TorchMetric(NamedMetric):
    """Wraps an object with the methods `update(predictions, target)`, `compute` and `reset`, as in torchmetrics.

    Objects in `val_evaluator` are wrapped automatically. Wrap them yourself to choose what `update` receives.

    In a distributed run, objects with a `sync` method, like those from torchmetrics, combine the results of all ranks
    themselves. Any other object is used only on rank 0, which updates it with one sample at a time in dataset order. In
    that case, predictions and targets must be tensors or lists with one row per sample, or tuples or dicts of these.

    Args:
        metric: The object.
        name: The name of the computed number, or the prefix for the keys of the computed dict. By default, a number is
            named after the object's class, and a dict's keys have no prefix.
        prediction: The key or index of the predictions in the output of the module or `validation_step`, or a function
            that returns them. By default, the whole output, or its `logits` if it has such an attribute, like the
            outputs of transformers models.
        target: The key or index of the target in the batch, or a function that returns it. By default, the last entry
            of a tuple, or the only entry of a dict with a well-known name, such as `label` or `mask`.

    Example:
        >>> class Correct:
        ...     def reset(self):
        ...         self.number = 0
        ...     def update(self, predictions, target):
        ...         self.number += int((predictions == target).sum())
        ...     def compute(self):
        ...         return self.number
        >>> evaluator = Evaluator({"correct": TorchMetric(Correct(), prediction="kind", target="kind")})
        >>> evaluator.reset()
        >>> kinds = torch.tensor([1, 2])
        >>> evaluator.process({"kind": kinds, "size": None}, {"image": None, "kind": kinds, "label": None})
        >>> evaluator.evaluate(2)
        {'correct': 2.0}
    """

    def __init__(self, metric: Any, name: str | None = None, *, prediction: Any = None, target: Any = None) -> None:
        super().__init__(type(metric).__name__, name)
        self.metric = metric
        self.prediction = prediction
        self.target = target
        check_takes(f"`update` of the metric '{self._label}' must take", metric.update, "predictions", "target")
        self._device = torch.device("cpu")

    @cached_property
    def _is_gathered(self) -> bool:  # the process group may not exist yet in the constructor
        metric = self.metric
        parts = metric.modules() if isinstance(metric, nn.Module) else [metric]  # a collection itself has no `sync`
        return get_world_size() > 1 and not any(hasattr(part, "sync") for part in parts)

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Updates the object with a batch, or stores the samples for rank 0."""
        predictions = scores_of(data_samples)
        if self.prediction is not None:
            predictions = _select("prediction", self.prediction, data_samples)
        if self.target is not None:
            target = _select("target", self.target, data_batch)
        else:
            advice = "Pass footplate.evaluation.TorchMetric(metric, target='key of the target') as the metric."
            _, target = split_target(data_batch, advice=advice)
        self._device = device_of(predictions)
        if self._is_gathered:
            self.results += zip(rows_of(predictions), rows_of(target), strict=True)
        else:
            self._update(predictions, target)
            self.results.append(None)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Returns the metric values and resets the object."""
        for predictions, target in results:
            self._update(predictions, target)
        values = self.named_numbers(self.metric.compute())
        self.reset()
        return values

    def reset(self) -> None:
        """Discards all results, and resets the wrapped metric."""
        super().reset()
        self.metric.reset()

    def evaluate(self, size: int) -> dict[str, Any]:
        """Computes the metric values over the samples of all ranks. Raises a DataError if no batch was evaluated."""
        if self._is_gathered:
            return super().evaluate(size)
        if not any(gather_objects(len(self.results))):
            raise DataError(f"the metric '{self._label}' has no results, because no batch was evaluated")
        return self.compute_metrics([])

    def _update(self, predictions: Any, target: Any) -> None:
        if hasattr(self.metric, "to"):
            self.metric = self.metric.to(self._device)
        try:
            self.metric.update(to_device(predictions, self._device), to_device(target, self._device))
        except Exception as error:
            inputs = f"predictions={str(describe(predictions)):.160}, target={str(describe(target)):.160}"
            add_note(error, f"`update` was called with {inputs}.")
            advice = "footplate.evaluation.TorchMetric(metric, prediction=..., target=...)"
            add_note(error, f"To choose what `update` receives, pass {advice}.")
            raise


def _select(name: str, choice: Any, data: Any) -> Any:
    """Returns an entry of a batch or of the predictions, as set by the argument `name` of a TorchMetric."""
    if callable(choice):
        return choice(data)
    try:
        return data[choice]
    except (LookupError, TypeError) as error:
        keys = list(data) if isinstance(data, Mapping) else []
        whole = "batch has" if name == "target" else "predictions have"
        raise ArgumentError(
            f"the {whole} no entry {choice!r}",
            key=name,
            found=keys or type(data),
            suggestion=nearest(str(choice), keys),
        ) from error


def rows_of(data: Any) -> list[Any]:
    """Splits a batch into batches of one sample on the CPU.

    The batch is a tensor of shape ``(N, ...)`` or a list of N items, or a tuple or dict of these.

    Raises:
        ArgumentError: A part of the batch is a single value.
    """
    if isinstance(data, Mapping):
        return [dict(zip(data, row, strict=True)) for row in zip(*map(rows_of, data.values()), strict=True)]
    if isinstance(data, tuple):
        return list(zip(*map(rows_of, data), strict=True))
    if getattr(data, "ndim", 1) == 0 or not hasattr(data, "__len__"):
        raise ArgumentError(
            "with several processes, this metric needs one row per sample, not a single value",
            found=data,
            notes=[
                "Choose the rows: footplate.evaluation.TorchMetric(metric, prediction='key', target='key').",
                "Or give the metric a method `sync` that combines the results of all processes. It may do nothing if "
                "the metric ignores the predictions. Each process then calls `update` with its batches.",
            ],
        )
    if isinstance(data, Tensor):
        return [row[None].clone() for row in data.detach().cpu()]  # sending a view would send the whole batch
    return [[row] for row in data]


def returned_numbers(output: Any, batch: Any, *, required: bool) -> dict[str, Any]:
    """Returns the numbers in a `validation_step` output. They serve as metrics if the run has no other metrics.

    If they are not `required`, because validation reports the loss, ignores predictions and a number named "loss".

    Raises:
        ArgumentError: `output` is not a dict of numbers, although they are `required`, or a value is a pair of numbers.
    """
    # The prediction for a batch of one sample may have the shape (1,).
    are_numbers = required or count_samples(batch, None) != 1
    if isinstance(output, tuple) and are_numbers:
        refuse_pair(output, "validation_step")
    shapes = ((), (1,)) if are_numbers else ((),)

    def is_number(value: Any) -> bool:
        return isinstance(value, numbers.Real | Weighted | Sum) or getattr(value, "shape", None) in shapes

    if isinstance(output, Mapping):
        values = {name: value for name, value in output.items() if not is_number(value)}
        for name, value in values.items():
            if required or isinstance(value, tuple):
                refuse_pair(value, f"entry '{name}' in the dict from validation_step")
        if not values:
            return {name: value for name, value in output.items() if required or name != "loss"}
    if not required:
        return {}
    raise ArgumentError(
        "no metric uses the predictions of validation_step",
        notes=[
            "Pass metrics, as in val_evaluator={'accuracy': ...}, or return a dict of numbers from validation_step. "
            "If only hooks use the predictions, set val_evaluator=[]."
        ],
    )


def total_of(values: Sequence[float]) -> float:
    """Returns the sum of numbers, which may be infinite or NaN."""
    # fsum is exact, but raises an error for inf - inf instead of returning NaN.
    return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)


def as_metric(metric: Any, name: str | None = None) -> BaseMetric[Any]:
    """Converts a metric to a BaseMetric.

    Args:
        metric: A metric, in one of the forms that `Evaluator` lists.
        name: The name of a function, an object with the torchmetrics API or a TorchMetric.

    Raises:
        ArgumentError: `metric` has an unsupported type, or `name` is passed for a config dict or another BaseMetric.
    """
    if isinstance(metric, TorchMetric):
        metric.name = name or metric.name
        return metric
    if isinstance(metric, BaseMetric) and name is None:
        return metric
    if isinstance(metric, Mapping) and name is None:
        built: BaseMetric[Any] = METRICS.build(metric)
        built.is_from_config = True
        for argument in built.output_arguments:
            if getattr(built, argument) is not None:
                check_output_path(getattr(built, argument), key=argument)
        return built
    if not isinstance(metric, (type, BaseMetric)):
        if all(callable(getattr(metric, method, None)) for method in ("update", "compute", "reset")):
            return TorchMetric(metric, name)
        if callable(metric) and not hasattr(metric, "reset"):
            return FunctionMetric(metric, name)
    raise ArgumentError(
        "a named metric must be a function of (predictions, batch), or an object with the methods `update(predictions, "
        "target)`, `compute` and `reset`; classes and BaseMetric objects are not supported"
        if name is not None
        else "a metric must be a BaseMetric, its config, a function of (predictions, batch), or an object with the "
        "methods `update(predictions, target)`, `compute` and `reset`",
        found=metric,
    )


def is_named(cfg: Any) -> bool:
    """Checks whether an evaluator section is a dict that maps names to functions or objects."""
    if not isinstance(cfg, Mapping) or not cfg or "type" in cfg:
        return False
    return not any(isinstance(value, (str, Mapping)) for value in cfg.values())


def copy_section(cfg: Any) -> Any:
    """Copies an evaluator section, so that its metrics can evaluate another dataset.

    Methods are shared: a copy of a method of the model would belong to a copy of the model.
    """
    return copy.deepcopy(cfg, {id(part): part for _, part in walk_paths([cfg]) if isinstance(part, MethodType)})


def device_of(data: Any) -> torch.device:
    """Returns the first non-CPU device in nested dicts, lists and tuples of tensors, or the CPU if none exists."""
    if isinstance(data, Tensor):
        return data.device
    if isinstance(data, Mapping):
        return device_of(tuple(data.values()))
    devices = map(device_of, data if isinstance(data, (list, tuple)) else ())
    return next((device for device in devices if device.type != "cpu"), torch.device("cpu"))
