"""The base class of metrics."""

import copy
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from footplate.distributed import broadcast_object, collect_results, get_rank, get_world_size, local_sample_count
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.evaluation.running_sum import RunningSum
from footplate.registry import METRICS
from footplate.storage import check_output_path, commit_bytes, output_path

_Result = TypeVar("_Result")
_PLAIN = (int, float, str, bool, type(None))


class BaseMetric(ABC, Generic[_Result]):
    """Keeps one result a sample and turns them into named values when all are there.

    A subclass overrides `process`, which appends to `self.results` one entry for each sample, and
    `compute_metrics`. In a run of several processes the entries of all are put together in data-set order,
    and those of samples that a sampler repeated are dropped.

    A metric that needs only the sum of its entries overrides `added` too. Then no more than the sum is kept, whatever
    the size of the data set, and `compute_metrics` is given one entry for each process.

    Args:
        collect_device: Through which memory results of other processes travel, "cpu" or "gpu".
        prefix: Put before the names of the values: `prefix/name`; by default the class's `default_prefix`.
        collect_dir: Accepted for configs that set it; results travel through the process group.

    Example:
        >>> class Accuracy(BaseMetric[bool]):
        ...     def process(self, data_batch, data_samples):
        ...         self.results += [sample["label"] == sample["truth"] for sample in data_samples]
        ...     def compute_metrics(self, results):
        ...         return {"top1": 100 * sum(results) / len(results)}
        >>> metric = Accuracy(prefix="accuracy")
        >>> metric.process(None, [dict(label=1, truth=1), dict(label=0, truth=1)])
        >>> metric.evaluate(size=2)
        {'accuracy/top1': 50.0}
    """

    default_prefix: str | None = None
    output_folder: str = ""
    """Where the metric writes files: the run's folder, or the current one outside of a run."""
    set_name = ""  # of several validation or test sets, the one that this metric is of

    def __init__(
        self,
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        if collect_device not in ("cpu", "gpu"):
            raise ArgumentError("results are collected on 'cpu' or 'gpu'", key="collect_device", found=collect_device)
        self.collect_device = collect_device
        self.collect_dir = collect_dir
        self.prefix = prefix or self.default_prefix
        self.results: list[_Result] = [] if type(self).added is BaseMetric.added else RunningSum(self.added)
        self._dataset_meta: Mapping[str, Any] | None = None

    @property
    def title(self) -> str:
        """What stands before the title of a table: "night: " for the set `night`, "" for the only set."""
        return f"{self.set_name}: " if self.set_name else ""

    @property
    def dataset_meta(self) -> Mapping[str, Any] | None:
        """What is known about the data set: its classes, its palette ..."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Mapping[str, Any] | None) -> None:
        self._dataset_meta = dataset_meta

    def attach(self, dataset: Any) -> None:
        """Learns which data set is evaluated; `dataset_meta` tells most metrics enough."""

    @abstractmethod
    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Appends the results of one batch to `self.results`.

        Args:
            data_batch: What the loader gave.
            data_samples: What the model made of it, data elements as dicts.
        """

    @abstractmethod
    def compute_metrics(self, results: list[_Result]) -> dict[str, Any]:
        """Returns the values by name; called in the main process with the results of all."""

    def added(self, one: _Result, other: _Result) -> _Result:
        """Returns the sum of two entries, where a metric needs no more; of whole numbers it is always the same."""
        raise NotImplementedError(f"the entries of {type(self).__name__} are kept one by one")

    def evaluate(self, size: int) -> dict[str, Any]:
        """Returns the values of all results since the last call, the same in every process.

        Args:
            size: The number of samples in the data set.

        Raises:
            DataError: No process has a result, or the first one could not compute the values.
            ArgumentError: `compute_metrics` gives no dict of values by name.
        """
        results = self._collected(size)
        self.results.clear()
        outcome = None if results is None else self._outcome(results)
        told: Any = broadcast_object(_Failure.of(outcome) if isinstance(outcome, Exception) else outcome)
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(told, _Failure):
            raise DataError(f"the metric '{type(self).__name__}' failed on the first rank: {told.words}")
        values: dict[str, Any] = told
        return values

    def _collected(self, size: int) -> list[_Result] | None:
        """The results of all processes, in the first one."""
        if not isinstance(self.results, RunningSum):
            return collect_results(_on_cpu(self.results), size, self.collect_device)
        own = self.results.of_first(local_sample_count(size, get_rank(), get_world_size()))
        return collect_results(_on_cpu(own), sys.maxsize, self.collect_device)

    def _outcome(self, results: list[_Result]) -> dict[str, Any] | Exception:
        """The values by name, or what kept them from being computed, which all processes are to learn."""
        name = type(self).__name__
        if not results:
            return DataError(
                f"the metric '{name}' has seen no sample",
                notes=["is the data set empty, or does process() append nothing to self.results?"],
            )
        try:
            found = self.compute_metrics(results)
        except Exception as error:
            return error
        if not isinstance(found, Mapping) or not all(isinstance(each, str) for each in found):
            return ArgumentError(f"compute_metrics of '{name}' returns a dict of values by name", found=found)
        return {self._named(each): value for each, value in found.items()}

    def _named(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


def check_samples(metric: BaseMetric[Any], samples: Sequence[Any], *needed: str) -> None:
    """Checks that predictions hold what a metric reads.

    Args:
        metric: The metric.
        samples: What the model predicted, one entry a sample.
        needed: The keys that each must have.

    Raises:
        ArgumentError: A sample is no data element or dict, or lacks a key.
    """
    name = type(metric).__name__
    for sample in samples:
        if not isinstance(sample, Mapping):
            raise ArgumentError(
                f"the metric '{name}' needs a data element or a dict for each sample",
                found=type(sample).__name__,
                notes=["Return one from the model in mode 'predict'."],
            )
        missing = next((key for key in needed if key not in sample), None)
        if missing is not None:
            raise ArgumentError(f"the metric '{name}' needs '{missing}' of each sample", found=sorted(map(str, sample)))


class _Failure(NamedTuple):
    """What the other processes are told of an error in the first one."""

    words: str

    @staticmethod
    def of(error: Exception) -> "_Failure":
        text = error.message if isinstance(error, FootplateError) else f"{type(error).__name__}: {error}"
        return _Failure(text.strip().partition("\n")[0])


@METRICS.register_module()
class DumpResults(BaseMetric[Any]):
    """Writes what the model predicted to a file, a pickle of one entry a sample; gives no value.

    Args:
        out_file_path: A path that ends in `.pkl` or `.pickle`, relative to the run's folder, `work_dir/<timestamp>`.
        collect_device: As of every metric.
        collect_dir: As of every metric.
    """

    def __init__(
        self,
        out_file_path: str,
        collect_device: Literal["cpu", "gpu"] = "cpu",
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, collect_dir=collect_dir)
        if not check_output_path(out_file_path, key="out_file_path").endswith((".pkl", ".pickle")):
            raise ArgumentError("predictions are dumped as a pickle", key="out_file_path", found=out_file_path)
        self.out_file_path = out_file_path

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keeps copies of the predictions, in main memory: what came with the batch would keep all of it there."""
        self.results.extend(copy.deepcopy(_on_cpu(list(data_samples))))

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        """Writes the file."""
        commit_bytes(output_path(self.output_folder, self.out_file_path), pickle.dumps(results))
        return {}


def _on_cpu(data: Any) -> Any:
    """Copies tensors, at any depth of dicts, lists and tuples, to main memory."""
    if type(data) in _PLAIN:  # most of what metrics keep
        return data
    if isinstance(data, Tensor):
        return data.detach().to(torch.device("cpu"))
    if hasattr(data, "to") and not isinstance(data, type):
        return data.to("cpu")
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(_on_cpu, data))
    if isinstance(data, (list, tuple)):
        return type(data)(map(_on_cpu, data))
    if isinstance(data, dict):
        return type(data)({key: _on_cpu(value) for key, value in data.items()})
    return data
