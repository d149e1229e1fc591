"""Writes per-class results as JSON lines to the folder of a run, and formats them as tables for the log."""

import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from footplate.storage import append_line

_logger = logging.getLogger("footplate")


class EvaluationContext(NamedTuple):
    """Describes the run and the dataset for which a metric is computed.

    Attributes:
        folder: The folder in which metrics write files, `work_dir/<timestamp>`; "" if there is no run.
        mode: "val" or "test".
        dataset: The name of the dataset; "" if there is only one.
        step: A function that returns the number of training iterations of the evaluated model.
        is_trial: Whether this is a trial with a single batch, as run by `footplate check`. Its results are not
            recorded.
    """

    folder: str = ""
    mode: str = "val"
    dataset: str = ""
    step: Callable[[], int] = lambda: 0
    is_trial: bool = False


def append_table(context: EvaluationContext, name: str, classes: Sequence[str], columns: Mapping[str, Any]) -> None:
    """Appends a table of per-class results to `vis_data/per_class.jsonl`. Warns if the file cannot be written.

    Args:
        context: The run and the dataset.
        name: The name of the table, such as "IoU".
        classes: The names of the classes, ``(C,)``.
        columns: Maps column names to one value per class, ``(C,)`` each. Non-finite values are written as null.
    """
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
        _logger.warning("The per-class results of iteration %d could not be written: %s", line["step"], error)


def format_table(classes: Sequence[str], columns: Mapping[str, Any], *, decimals: int = 2) -> str:
    """Formats numbers as a text table with one row per class.

    Example:
        >>> print(format_table(["shoe", "bag"], {"IoU": [50, 8.128]}))
        class     IoU
        shoe    50.00
        bag      8.13
    """
    first = max(map(len, ["class", *classes]))
    widths = [max(len(name), 6) for name in columns]
    rows = [list(columns), *([f"{value:.{decimals}f}" for value in row] for row in zip(*columns.values(), strict=True))]
    return "\n".join(
        "  ".join([label.ljust(first), *(text.rjust(width) for text, width in zip(row, widths, strict=True))])
        for label, row in zip(["class", *classes], rows, strict=True)
    )
