"""Defines the names of losses and metrics in the message hub, in log lines and in files."""

import logging
import re
from collections.abc import Collection, Container

_logger = logging.getLogger("footplate.records")
RENAMED_SUFFIX = "_of_model"
RESERVED_NAMES = frozenset(
    {"lr", "base_lr", "time", "data_time", "grad_norm", "memory", "eta", "iter", "epoch", "step", "mode", "at"}
)
_VALIDATION = "val/"


class ScalarNames:
    """Maps reserved names of losses and metrics to other names, and warns once for each."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

    def name_of(self, mode: str, name: str, further: Collection[str] = ()) -> str:
        """Returns the name for recording a value: `<name>_of_model` if the name is reserved, otherwise `name`.

        Args:
            mode: "train", "val" or "test".
            name: The name of the loss or metric.
            further: Additional names that are reserved in this run.
        """
        if (mode, name) not in self._names:
            is_reserved = name in RESERVED_NAMES or name in further
            self._names[mode, name] = name + RENAMED_SUFFIX if is_reserved else name
            if is_reserved:
                _logger.warning(
                    "The name '%s' is reserved in the log, so the %s is recorded as '%s'. Give it another name.",
                    name,
                    "loss" if mode == "train" else "metric",
                    self._names[mode, name],
                )
        return self._names[mode, name]


def dataset_metric(dataset: str, metric: str) -> str:
    """Returns the name of a metric of a dataset: `<dataset>/<metric>`, or `metric` if the dataset has no name."""
    return f"{dataset}/{metric}" if dataset else metric


def is_of_dataset(metric: str, datasets: Container[str]) -> bool:
    """Checks whether a metric belongs to one of the named datasets."""
    return metric.partition("/")[0] in datasets


def validation_label(name: str, recorded: Container[str]) -> str:
    """Returns the name of a validation scalar in log lines and files: `val/<name>` if training has the same scalar.

    Args:
        name: The name of the metric or loss.
        recorded: The keys of all recorded scalars, such as `train/loss`.
    """
    return _VALIDATION + name if f"train/{name}" in recorded else name


def metric_of_label(label: str) -> str:
    """Returns the name of the metric with a given `validation_label`."""
    return label.removeprefix(_VALIDATION)


def split_dataset(name: str) -> tuple[str, str]:
    """Splits the name of a metric at its first slash into a dataset or metric prefix, which may be "", and the rest.

    >>> split_dataset("night/mIoU"), split_dataset("IoU.T-shirt/top")
    (('night', 'mIoU'), ('', 'IoU.T-shirt/top'))
    """
    prefix, slash, _ = name.partition(".")[0].partition("/")  # names of classes may contain slashes
    return (prefix, name[len(prefix) + 1 :]) if slash else ("", name)


def is_of_class(name: str, names: Container[str]) -> bool:
    """Checks whether a metric is the result of a single class, given the names of all metrics.

    `IoU.shoe` is the result of a class if there is a mean `mIoU`. `shoe_precision` and `segm_shoe_precision` are
    results of a class if there is `bbox_mAP` or `segm_mAP`.
    """
    whole, dot, _ = name.partition(".")  # names of classes may contain slashes
    before, slash, stem = whole.rpartition("/")
    if dot and f"{before}{slash}m{stem}" in names:
        return True
    prefixes = ["", *(name[: each.end()] for each in re.finditer("/", name))]
    return name.endswith("_precision") and any(
        f"{prefix}{kind}_mAP" in names for prefix in prefixes for kind in ("bbox", "segm")
    )
