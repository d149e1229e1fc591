"""Defines the base class for metrics, and a metric that dumps predictions."""

import copy
import json
import logging
import math
import os
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from footplate.checks import check_choice
from footplate.data import map_tensors
from footplate.distributed import collect_results, compute_on_main, get_world_size
from footplate.errors import ArgumentError, DataError
from footplate.registry import METRICS
from footplate.storage import append_line, commit_bytes, output_path

_logger = logging.getLogger("footplate")
_Result = TypeVar("_Result")


class EvaluationContext(NamedTuple):
    """Describes the run and the dataset that a metric is computed for.

    Attributes:
        folder: The folder that metrics write files to, `work_dir/<timestamp>`. Empty if there is no run.
        mode: "val" or "test".
        dataset: The name of the dataset. Empty if there is only one.
        step: A function that returns the number of iterations that the model has been trained for.
        is_trial: Whether this is a trial run with a single batch, as in `footplate check`. Its results are not
            recorded.
    """

    folder: str = ""
    mode: str = "val"
    dataset: str = ""
    step: Callable[[], int] = lambda: 0
    is_trial: bool = False


class BaseMetric(ABC, Generic[_Result]):
    """Base class for metrics, which collect one result per sample and compute named values from all results.

    Subclasses override `process`, which appends one entry per sample to `self.results`, and `compute_metrics`. In a
    distributed run, the results of all ranks are gathered in dataset order, without repeated samples.

    Args:
        collect_device: Ignored; accepted for compatibility. Results are gathered in CPU memory.
        prefix: The prefix for value names, as in `prefix/name`. Defaults to the class's `default_prefix`.
        collect_dir: Ignored; accepted for compatibility. Results are gathered through the process group.

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
    takes_whole_batches: ClassVar[bool] = False
    """Whether `process` receives the model's output for a batch unchanged, instead of a list of samples."""
    format_only = False
    """Whether the metric only writes predictions, so that it may have neither results nor values."""
    rename_advice: ClassVar[str] = "Set a different prefix for each of them: prefix='...'."
    """Advice for the error message if another metric returns a value with the same name."""
    output_arguments: ClassVar[Sequence[str]] = ()
    """The arguments with paths of output files. A config may set them only to paths inside the run's folder."""
    context = EvaluationContext()
    """The run and the dataset that the metric is computed for. Set by the evaluator."""
    has_processed = False
    """Whether the evaluator has passed batches since the last evaluation. Their results may be outside `results`."""
    is_from_config = False
    """Whether the evaluator has built the metric from a config. Otherwise, code has chosen its paths."""

    def __init__(
        self,
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        check_choice("collect_device", collect_device, ("cpu", "gpu"))
        self.collect_device = collect_device
        self.collect_dir = collect_dir
        self.prefix = prefix or self.default_prefix
        self.results: list[_Result] = []
        self._dataset_meta: Mapping[str, Any] | None = None

    @property
    def optional_prefixes(self) -> Sequence[str]:
        """The prefixes of values that may be missing altogether, for example while the model does not detect anything.

        By default, this is the metric's `prefix`.
        """
        return [self.prefix] if self.prefix else []

    @property
    def _label(self) -> str:
        """The metric's name in messages."""
        return type(self).__name__

    @property
    def dataset_prefix(self) -> str:
        """The prefix for table titles, e.g. "night: " for the dataset `night`. Empty for a single dataset."""
        return f"{self.context.dataset}: " if self.context.dataset else ""

    @property
    def dataset_meta(self) -> Mapping[str, Any] | None:
        """The dataset's metainfo, including its classes and palette."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Mapping[str, Any] | None) -> None:
        self._dataset_meta = dataset_meta

    def attach(self, dataset: Any) -> None:
        """Receives the dataset before an evaluation. Override this in metrics that need more than `dataset_meta`."""

    @abstractmethod
    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Appends the results of one batch to `self.results`.

        Args:
            data_batch: The batch from the dataloader.
            data_samples: The model's predictions, with data elements converted to dicts.
        """

    @abstractmethod
    def compute_metrics(self, results: list[_Result]) -> dict[str, Any]:
        """Returns a dict of metric values. Called on rank 0 with the results of all ranks."""

    def _output_path(self, path: str) -> str:
        """Returns the path for an output file, in a subfolder with the dataset's name if there are several datasets.

        A path from a config is relative to the run's log folder, and a path from code to the current folder.
        """
        if self.is_from_config:
            return output_path(self.context.folder, os.path.join(self.context.dataset, path))
        folder, name = os.path.split(path)
        return os.path.join(folder, self.context.dataset, name)

    def record_per_class(self, name: str, classes: Sequence[str], columns: Mapping[str, Any]) -> None:
        """Appends a table to the run's per-class results. Call this in `compute_metrics`.

        The table is written to `vis_data/per_class.jsonl` in the run's log folder and shown by `footplate report`. Does
        nothing outside a run. Logs a warning if the file cannot be written.

        Args:
            name: The name of the table, e.g. "IoU".
            classes: The class names, ``(C,)``.
            columns: A dict that maps column names to one number per class, ``(C,)``, or NaN for classes without a
                value.
        """
        context = self.context
        if not context.folder or context.is_trial:
            return
        numbers = [np.asarray(column).tolist() for column in columns.values()]
        rows = [
            [label, *(value if math.isfinite(value) else None for value in values)]
            for label, *values in zip(classes, *numbers, strict=True)
        ]
        line = {
            "step": context.step(),
            "mode": context.mode,
            "dataset": context.dataset,
            "metric": name,
            "columns": ["class", *columns],
            "rows": rows,
        }
        try:
            append_line(os.path.join(context.folder, "vis_data", "per_class.jsonl"), json.dumps(line))
        except OSError as error:
            _logger.warning("Could not write the per-class results of iteration %d: %s", line["step"], error)

    def reset(self) -> None:
        """Discards all results. Called at the start of each evaluation, because the previous one may have been aborted.

        Override this method in metrics that store values outside `self.results`, and call `super().reset()`.
        """
        self.results.clear()

    def evaluate(self, size: int) -> dict[str, Any]:
        """Computes the metric values from the results of all ranks, then clears the results.

        Rank 0 does this, with the results in the order of the dataset. All ranks return the same values. If
        `compute_metrics` fails, all ranks raise the same error. `size` is the number of samples in the dataset. Results
        past `size` belong to samples that the sampler has repeated; see `build_loaders`.

        Raises:
            DataError: No rank has any results, no batch was processed, and `format_only` is not set.
            ArgumentError: `compute_metrics` does not return a dict that maps names to values.
        """
        results = collect_results(to_device(self.results, "cpu"), size)
        BaseMetric.reset(self)  # an override may discard values that `compute_metrics` needs
        return compute_on_main(lambda: self._compute(results or []))

    def _compute(self, results: list[_Result]) -> dict[str, Any]:
        """Calls `compute_metrics` and adds the prefix to the value names."""
        if not results and not self.format_only:
            if not self.has_processed:
                advice = "Check that the dataset is not empty, and call process() before evaluate()."
                raise DataError(f"the metric '{self._label}' has no results", notes=[advice])
            _logger.warning(
                "process() of the metric '%s' has not appended to self.results. Unless the metric stores its results "
                "elsewhere, its values are wrong. If it only writes files, set its attribute format_only to True.%s",
                self._label,
                " Results that are stored elsewhere are those of one process." if get_world_size() > 1 else "",
            )
        self.has_processed = False
        values = self.compute_metrics(results)
        if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
            problem = f"compute_metrics of '{self._label}' must return a dict that maps names to values"
            raise ArgumentError(problem, found=values)
        prefix = f"{self.prefix}/" if self.prefix else ""
        return {f"{prefix}{key}": value for key, value in values.items()}


_PICKLES = (".pkl", ".pickle")


@METRICS.register_module()
class DumpResults(BaseMetric[Any]):
    """Writes predictions to a pickle file with one entry per sample. Returns no metric values.

    Args:
        out_file_path: A path that ends in `.pkl` or `.pickle`. In a config, it is relative to the run's log folder
            `work_dir/<timestamp>`, which it cannot leave. Code may pass any path, as `tools/test.py --out` does. If
            there are several datasets, the file is in a subfolder with the dataset's name.
        settings: Arguments for `BaseMetric`.
    """

    output_arguments = ("out_file_path",)

    def __init__(self, out_file_path: str, **settings: Any) -> None:
        super().__init__(**settings)
        if not isinstance(out_file_path, (str, os.PathLike)) or not os.fspath(out_file_path).endswith(_PICKLES):
            raise ArgumentError(
                "out_file_path of DumpResults must end in .pkl or .pickle", key="out_file_path", found=out_file_path
            )
        self.out_file_path = os.fspath(out_file_path)

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Appends CPU copies of the predictions, because views would keep the whole batch in memory."""
        self.results.extend(copy.deepcopy(to_device(list(data_samples), "cpu")))

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        """Writes the pickle file. Returns no metric values."""
        path = self._output_path(self.out_file_path)
        commit_bytes(path, pickle.dumps(results))
        _logger.info("Saved the predictions to %s", path)
        return {}


def to_device(data: Any, device: torch.device | str) -> Any:
    """Returns a copy of nested dicts, lists and tuples with all tensors detached and moved to a device.

    Also moves other objects that have a `to` method.
    """
    return map_tensors(data, lambda value: (value.detach() if isinstance(value, Tensor) else value).to(device))
