"""Checks samples and class names for task metrics, formats per-class results and records confusion matrices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from footplate.errors import ArgumentError, DataError
from footplate.evaluation import BaseMetric

_MAX_CLASSES = 100  # a larger matrix would need a lot of disk space and not fit on a screen


def check_samples(metric: BaseMetric[Any], samples: Sequence[Any], *needed: str) -> None:
    """Checks that predictions contain the keys a metric needs.

    Raises:
        ArgumentError: A sample is not a dict, or lacks one of the `needed` keys.
    """
    for sample in samples:
        found: object = type(sample)
        if not isinstance(sample, Mapping):
            wanted = "a data element or a dict for each sample"
            advice = "Return a list of data elements or dicts in mode 'predict', or pass a metric function in Python."
        elif missing := next((key for key in needed if key not in sample), None):
            wanted, found = f"the key '{missing}' in each sample", sorted(map(str, sample))
            advice = "Return it from the model in mode 'predict'."
            if missing == "img_path":
                advice = "Add it to the meta_keys of the packing transform."
            elif missing.startswith("gt_"):
                advice = "Add LoadAnnotations to the validation or test pipeline."
        else:
            continue
        raise ArgumentError(f"the metric '{type(metric).__name__}' requires {wanted}", found=found, notes=[advice])


def required_classes(metric: BaseMetric[Any]) -> tuple[str, ...]:
    """Returns the class names of the dataset. Raises a DataError if its metainfo has no classes."""
    classes = (metric.dataset_meta or {}).get("classes")
    if not classes:
        raise DataError(
            f"{type(metric).__name__} requires the class names of the dataset",
            notes=["The metainfo of the dataset must contain 'classes'."],
        )
    return tuple(map(str, classes))


def record_matrix(metric: BaseMetric[Any], classes: Sequence[str], matrix: Any, name: str = "confusion_matrix") -> None:
    """Adds a confusion matrix to the run's per-class results.

    Leaves it out if there are more than 100 classes, or two of the same name.

    Args:
        metric: The metric that has computed the matrix.
        classes: The names of the classes, ``(C,)``.
        matrix: Counts of shape ``(C, C)``, with true classes as rows and predicted classes as columns.
        name: The name of the table. It begins with "confusion_matrix".
    """
    if len(set(classes)) == len(classes) <= _MAX_CLASSES:
        metric.record_per_class(name, classes, dict(zip(classes, np.asarray(matrix).T, strict=True)))


def format_table(classes: Sequence[str], columns: Mapping[str, Any], *, decimals: int = 2) -> str:
    """Formats a text table with one row per class. `columns` maps each heading to a list with one number per class.

    NaN is shown as "-".

    Example:
        >>> print(format_table(["shoe", "bag"], {"IoU": [50, 8.128]}))
        class     IoU
        shoe    50.00
        bag      8.13
    """
    first = max(map(len, ["class", *classes]))
    widths = [max(len(name), 6) for name in columns]
    numbers = zip(*columns.values(), strict=True)
    rows = [list(columns), *([f"{value:.{decimals}f}".replace("nan", "-") for value in row] for row in numbers)]
    return "\n".join(
        "  ".join([label.ljust(first), *(text.rjust(width) for text, width in zip(row, widths, strict=True))])
        for label, row in zip(["class", *classes], rows, strict=True)
    )
