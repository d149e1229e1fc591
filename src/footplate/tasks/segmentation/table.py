"""Plain-text tables for the log."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt


def format_table(head: str, labels: Sequence[str], columns: Mapping[str, npt.NDArray[Any]]) -> str:
    """Formats numbers with two decimals, with one row per label and one column per name.

    Example:
        >>> import numpy as np
        >>> print(format_table("class", ["shoe", "bag"], {"IoU": np.array([50, 8.128])}))
        class     IoU
        shoe    50.00
        bag      8.13
    """
    first = max(map(len, [head, *labels]))
    widths = {name: max(len(name), 6) for name in columns}
    lines = ["  ".join([head.ljust(first), *(name.rjust(widths[name]) for name in columns)])]
    for position, label in enumerate(labels):
        numbers = (f"{column[position]:.2f}".rjust(widths[name]) for name, column in columns.items())
        lines.append("  ".join([label.ljust(first), *numbers]))
    return "\n".join(lines)
