"""Stores the latest values of a scalar, and statistics of all its values."""

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from footplate.checks import read_tensor
from footplate.distributed import gather_objects, get_world_size

Statistic = Callable[..., float]
Values = NDArray[np.float64]

BUILTIN_STATISTICS = ("mean", "min", "max", "current")
CAPACITY = 1 << 13  # the number of most recent values to store per scalar
_CHUNK = 1024


class _Totals(NamedTuple):
    """Statistics of all values since the start of the run or row. `weight` is the sum of the counts."""

    weight: float = 0.0
    sum: float = 0.0
    min: float = math.inf
    max: float = -math.inf

    def add(self, values: Sequence[float], counts: Sequence[float], *, are_means: bool) -> "_Totals":
        """Returns the totals after adding values: sums over `count` items or, if `are_means`, their means.

        Adds the values one by one, so that the result does not depend on the number of values per call.
        """
        weight, total, low, high = self
        for number, count in zip(values, counts, strict=True):
            if are_means and not count:  # a mean over no items may be NaN
                continue
            weight += count
            total += number * count if are_means else number
            is_nan = number != number
            low = number if number < low or is_nan else low
            high = number if number > high or is_nan else high
        return _Totals(weight, total, low, high)


class HistoryBuffer:
    """Stores the history of a scalar in bounded memory, without a device sync for each value.

    For a tensor on an accelerator, `append` stores only a reference. Tensors are converted to numbers when the buffer
    is read, or every 1,024 values. Totals since the start of the run and since the last row of its `History` are stored
    separately, so that statistics over `"row"` and `"global"` windows are exact. The stored values, from the oldest to
    the latest::

        |---------------- their counts in _counts, one per value --------------|
        |---------------- numbers in _values ----------------|---- _unread ----|
        |------ _num_in_totals -------|---------- not in the totals -----------|
                  |------------------------ since_mark ------------------------|

    `since_mark` does not depend on the other limits, and also counts values that are no longer stored.

    Args:
        log_history: The initial values.
        count_history: The counts of the initial values.
        max_length: The number of most recent values to store.

    Attributes:
        averages_ranks: Whether `average_over_ranks` replaces the values of this rank with means over all ranks. If so,
            all values since the latest call of that function are stored, even more than `max_length`. RuntimeInfoHook
            sets this attribute, and calls the function at least every 1,000 iterations.
        num_added: The number of values added so far, including values that are no longer stored. After
            `load_state_dict`, starts from the number of restored values.
        reduction: How `reduce` combines the values of a window or of several ranks. With "mean", the default, a value
            is a sum over `count` items, as in MMEngine. With "weighted", it is their mean; see `Weighted`. With "sum",
            the values are summed.
        since_mark: The number of values added since the last `mark`, or since the start.

    Raises:
        ValueError: `log_history` and `count_history` differ in length.

    Example:
        >>> from footplate.records import HistoryBuffer
        >>> losses = HistoryBuffer()
        >>> for value in (3.0, 2.0, 1.0):
        ...     losses.append(value)
        >>> losses.current(), losses.mean(2), losses.max()
        (1.0, 1.5, 3.0)
    """

    _registered: ClassVar[dict[str, Statistic]] = {}

    def __init__(
        self, log_history: Sequence[float] = (), count_history: Sequence[float] = (), max_length: int = CAPACITY
    ) -> None:
        self._capacity = max_length
        self._values = array("d")
        self._counts = array("d")
        # A value or count that has not been copied from its device yet, and all later values, with their counts.
        self._unread: list[tuple[float | Tensor, float | Tensor]] = []
        self._run_totals = self._row_totals = _Totals()
        self.num_added = 0
        self.since_mark = 0
        self._num_in_totals = 0  # with `averages_ranks`, values are added to the totals once they have been averaged
        self.averages_ranks = False
        self.reduction = "mean"
        for value, count in zip(log_history, count_history, strict=True):
            self.append(value, count)

    def __len__(self) -> int:
        return min(len(self._counts) + len(self._unread), self._capacity)

    def mark(self) -> None:
        """Starts to count the values of the next log line, or of a validation or test run."""
        self.since_mark = 0

    def append(self, value: float | Tensor, count: float | Tensor = 1) -> None:
        """Adds a value: a number, or a detached 0-d tensor on any device.

        Args:
            value: The value, or the sum over `count` items, or their mean; see `reduction`.
            count: The number of items. `mean` divides by the sum of the counts.
        """
        if isinstance(value, Tensor):  # keeping many small CPU tensors would fragment the heap
            value = value.item() if value.is_cpu else value.detach()
        if isinstance(count, Tensor):
            count = count.item() if count.is_cpu else count.detach()
        if self._unread or isinstance(value, Tensor) or isinstance(count, Tensor):
            self._unread.append((value, count))
        else:
            self._values.append(value)
            self._counts.append(count)
        self.since_mark += 1
        self.num_added += 1
        if not self.num_added % _CHUNK and not self.averages_ranks:
            self._add_to_totals()

    def update(self, log_val: float | Tensor, count: float = 1) -> None:
        """Adds a value; see `append`."""
        self.append(log_val, count)

    def start_row(self) -> None:
        """Starts a new `"row"` window for statistics, with each row of the run's `History`."""
        self._add_to_totals()
        self._row_totals = _Totals()

    @property
    def data(self) -> tuple[Values, Values]:
        """The stored values and their counts, oldest first, as two float64 vectors."""
        self._read()
        return np.array(self._values[-self._capacity :]), np.array(self._counts[-self._capacity :])

    def current(self) -> float:
        """Returns the latest value, or NaN if there are no values."""
        self._read()
        return self._values[-1] if self._values else math.nan

    def mean(self, window_size: int | str | None = None) -> float:
        """Returns the mean of the values in a window, or NaN if none exist.

        Args:
            window_size: The number of latest values (at most `max_length`), "row" for those that belong to the next row
                of the run's `History`, or "global" (or None) for the run.
        """
        totals = self._totals_over(window_size)
        return totals.sum / totals.weight if totals.weight else math.nan

    def reduce(self, window_size: int | str | None = None) -> float:
        """Returns the mean of the values in a window or, if `reduction` is "sum", their sum; see `mean`."""
        return self._totals_over(window_size).sum if self.reduction == "sum" else self.mean(window_size)

    def weight(self, window_size: int | str | None = None) -> float:
        """Returns the sum of the counts in a window; see `mean`. If it is 0, there is no mean."""
        return self._totals_over(window_size).weight

    def invalid(self, window_size: int) -> NDArray[np.bool_]:
        """Returns which of the latest `window_size` values are non-finite, or have a count that is no weight.

        A value with the count 0 is valid: a mean over no items may be NaN.
        """
        values, counts = (part[-window_size:] for part in self.data)
        is_valid: NDArray[np.bool_] = (counts == 0) | (np.isfinite(values) & np.isfinite(counts) & (counts > 0))
        return ~is_valid

    def min(self, window_size: int | str | None = None) -> float:
        """Returns the minimum over a window, or NaN if there are no values; see `mean`."""
        totals = self._totals_over(window_size)
        return totals.min if totals.min <= totals.max else math.nan

    def max(self, window_size: int | str | None = None) -> float:
        """Returns the maximum over a window, or NaN if there are no values; see `mean`."""
        totals = self._totals_over(window_size)
        return totals.max if totals.min <= totals.max else math.nan

    @classmethod
    def register_statistics(cls, method: Statistic) -> Statistic:
        """Registers a function `method(history, ...)` as a statistic with the same name. Can be used as a decorator."""
        cls._registered[method.__name__] = method
        return method

    def statistics(self, method_name: str, *args: Any, **kwargs: Any) -> float:
        """Computes a statistic: mean, min, max, current, or a registered statistic.

        Raises:
            KeyError: The statistic does not exist.
        """
        if method_name in BUILTIN_STATISTICS:
            return getattr(self, method_name)(*args, **kwargs)  # type: ignore[no-any-return]
        return self._registered[method_name](self, *args, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a resumed run needs to compute exactly the same statistics."""
        values, counts = self.data
        state = {
            "values": torch.from_numpy(values),
            "counts": torch.from_numpy(counts),
            "totals": torch.tensor(self._totals_over("global"), dtype=torch.float64),
            "row": torch.tensor(self._totals_over("row"), dtype=torch.float64),
            "since_mark": self.since_mark,
        }
        return state if self.reduction == "mean" else {**state, "reduction": self.reduction}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned. Raises a KeyError or ValueError if it is invalid."""
        values, counts, totals, row = (
            read_tensor(state, key, 1).tolist() for key in ("values", "counts", "totals", "row")
        )
        if len(counts) != len(values):
            raise ValueError(f"values and counts have different lengths: {len(values)} and {len(counts)}")
        self._run_totals = _Totals(*totals)
        self._row_totals = _Totals(*row)
        self._values = array("d", values[-self._capacity :])
        self._counts = array("d", counts[-self._capacity :])
        self._unread = []
        self.num_added = self._num_in_totals = len(self._values)
        self.since_mark = state.get("since_mark", 0)
        self.reduction = state.get("reduction", "mean")

    def unaveraged_values(self) -> list[tuple[float, float]]:
        """Returns the values that are not in the totals yet, which are this rank's own, with their counts.

        Returns an empty list if they cannot be averaged, because `reduction` is "mean" and a count is not 1.
        """
        self._read()
        first = self._num_in_totals
        if self.reduction == "mean" and not set(self._counts[first:]) <= {1}:
            return []
        return list(zip(self._values[first:], self._counts[first:], strict=True))

    def replace_unaveraged(self, ranks: Sequence[Sequence[tuple[float, float]]]) -> None:
        """Replaces the values that `unaveraged_values` returned with those of all ranks, and adds them to the totals.

        Args:
            ranks: What `unaveraged_values` returned on each rank. If the lists are empty, the values are added to the
                totals without being averaged.
        """
        merged = [self._merge(entries) for entries in zip(*ranks, strict=True)]
        start = len(self._values) - len(merged)
        self._values[start:] = array("d", [value for value, _ in merged])
        self._counts[start:] = array("d", [count for _, count in merged])
        self._add_to_totals()

    def _merge(self, entries: Sequence[tuple[float, float]]) -> tuple[float, float]:
        """Returns the value and count that replace those of several ranks."""
        if self.reduction != "weighted":
            total = sum(value for value, _ in entries)
            return (total if self.reduction == "sum" else total / len(entries)), 1.0
        weight = sum(count for _, count in entries)
        total = sum(value * count for value, count in entries if count)
        return (total / weight if weight else math.nan), weight

    def _totals_over(self, window: int | str | None) -> _Totals:
        self._read()
        if window in ("row", "global", None):
            first = self._num_in_totals
            before = self._row_totals if window == "row" else self._run_totals
        else:
            first = max(len(self._values) - min(int(window or 0), self._capacity), 0)
            before = _Totals()
        are_means = self.reduction == "weighted"
        return before.add(self._values[first:], self._counts[first:], are_means=are_means)

    def _read(self) -> None:
        """Converts unread tensors to numbers, with a single copy from the device."""
        tensors = [part for pair in self._unread for part in pair if isinstance(part, Tensor)]
        if tensors:
            numbers = iter(torch.stack([part.reshape(()).to(tensors[0].device) for part in tensors]).tolist())
            read = [[next(numbers) if isinstance(part, Tensor) else part for part in pair] for pair in self._unread]
            self._values.extend(value for value, _ in read)
            self._counts.extend(count for _, count in read)
            self._unread.clear()

    def _add_to_totals(self) -> None:
        self._run_totals = self._totals_over("global")
        self._row_totals = self._totals_over("row")
        del self._values[: -self._capacity], self._counts[: -self._capacity]
        self._num_in_totals = len(self._values)


def average_over_ranks(buffers: Mapping[str, HistoryBuffer]) -> None:
    """Replaces the values added since the last call with means over the ranks. All ranks must call this function.

    The means are weighted by the counts if the `reduction` of a buffer is "weighted"; if it is "sum", the values are
    summed. Skips buffers without `averages_ranks`, and other buffers with an unaveraged value whose count is not 1. On
    each rank, the mean covers only the ranks that have added the same number of values.
    """
    if get_world_size() == 1:
        return
    own = {key: buffer.unaveraged_values() for key, buffer in buffers.items() if buffer.averages_ranks}
    ranks = gather_objects(own)
    for key, values in own.items():
        alike = [rank[key] for rank in ranks if key in rank and len(rank[key]) == len(values)]
        buffers[key].replace_unaveraged(alike)


def known_statistics() -> list[str]:
    """Returns the names that `HistoryBuffer.statistics` accepts."""
    return [*BUILTIN_STATISTICS, *HistoryBuffer._registered]
