"""Stores the values of each scalar over a run."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from footplate.checks import read_count, read_number, read_tensor
from footplate.distributed import gather_objects, get_world_size

Statistic = Callable[..., float]
Values = npt.NDArray[np.float64]

BUILTIN_STATISTICS = ("mean", "min", "max", "current")
CAPACITY = 1 << 13  # the number of latest values that are stored per scalar
_CHUNK = 1024


class _Totals:
    """Sum, count, minimum and maximum of all values since the start, on the device of the values."""

    def __init__(self) -> None:
        self.count = 0.0
        self.parts: dict[str, Tensor] = {}

    def add(self, new: dict[str, Tensor], count: float) -> None:
        """Adds the sum, minimum and maximum of new values, whose counts sum to `count`."""
        self.count += count
        if self.parts:
            old = {name: part.to(new[name]) for name, part in self.parts.items()}
            low, high = torch.minimum(old["min"], new["min"]), torch.maximum(old["max"], new["max"])
            new = {"sum": old["sum"] + new["sum"], "min": low, "max": high}
        self.parts = new

    def state_dict(self) -> dict[str, Any]:
        parts = {name: part.cpu() for name, part in self.parts.items()}
        return {"count": self.count, **dict.fromkeys(("sum", "min", "max")), **parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = read_number(state, "count", least=0)
        is_empty = all(state[name] is None for name in ("sum", "min", "max"))
        self.parts = {} if is_empty else {name: read_tensor(state, name, 0) for name in ("sum", "min", "max")}


class HistoryBuffer:
    """The history of a scalar in bounded memory. Values are not copied from the accelerator until they are read.

    `append` only stores a reference to a tensor on an accelerator. Every 1,024 values and before most reads, the
    values are joined with the latest `max_length` values on their device. Totals since the start of the run and the
    epoch are stored separately, so that statistics over `"epoch"` and `"global"` windows are exact.

    Args:
        log_history: The initial values.
        count_history: The counts of the initial values.
        max_length: The number of latest values to store.

    Attributes:
        averages_ranks: Whether `average_over_ranks` replaces the values of this rank with means over all ranks.

    Raises:
        ValueError: The numbers of values and counts differ.

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
        self._pending: list[Any] = []
        self._pending_counts: list[float] = []
        self._values = torch.empty(0, dtype=torch.float64)
        self._counts = torch.empty(0, dtype=torch.float64)
        self._written = 0
        self._totals = _Totals()
        self._epoch = _Totals()
        self._marked = 0
        self.averages_ranks = False
        self._averaged = 0  # the number of pending values that are means over the ranks
        for value, count in zip(log_history, count_history, strict=True):
            self.append(value, count)

    def __len__(self) -> int:
        return min(self._written + len(self._pending), self._capacity)

    @property
    def total(self) -> int:
        """The number of values that were added, including values that are no longer stored."""
        return self._written + len(self._pending)

    @property
    def since_mark(self) -> int:
        """The number of values that were added since the latest `mark` or `load_state_dict`."""
        return self.total - self._marked

    def mark(self) -> None:
        """Marks the start of the values of a validation or test."""
        self._marked = self.total

    def append(self, value: float | Tensor, count: float = 1) -> None:
        """Adds a value: a number, or a detached 0-d tensor on any device.

        Args:
            value: The value, or the sum over `count` items.
            count: The number of items. `mean` divides by the sum of the counts.
        """
        if isinstance(value, Tensor) and value.is_cpu:  # many small tensors would fragment the heap
            value = value.item()
        self._pending.append(value)
        self._pending_counts.append(count)
        if len(self._pending) >= _CHUNK and not self.averages_ranks:
            self._flush()

    def update(self, log_val: float | Tensor, count: float = 1) -> None:
        """Adds a value; see `append`."""
        self.append(log_val, count)

    def start_epoch(self) -> None:
        """Starts a new `"epoch"` window."""
        self._flush()
        self._epoch = _Totals()

    @property
    def data(self) -> tuple[Values, Values]:
        """The stored values and their counts, oldest first, as two float64 vectors `(N,)`."""
        history = self._flushed()
        return history._values.cpu().double().numpy().copy(), history._counts.numpy().copy()

    def current(self) -> float:
        """Returns the latest value, or NaN if there are no values."""
        if self._pending:
            return float(self._pending[-1])
        values, _ = self._latest(1)
        return float(values[-1]) if len(values) else float("nan")

    def mean(self, window_size: int | str | None = None) -> float:
        """Returns the mean over the latest `window_size` values, the `"epoch"`, or all values (`"global"` or None)."""
        if type(window_size) is int and 0 < window_size <= len(self._pending):
            # The usual case for a log line needs no array.
            window_size = min(window_size, self._capacity)
            recent = self._pending[-window_size:]
            if not any(isinstance(value, Tensor) for value in recent):
                return math.fsum(recent) / math.fsum(self._pending_counts[-window_size:])
        totals = self._totals_of(window_size)
        if totals is not None:
            return float(totals.parts["sum"]) / totals.count if totals.parts else float("nan")
        values, counts = self._latest(window_size)
        return float(values.sum() / counts.sum()) if len(values) else float("nan")

    def min(self, window_size: int | str | None = None) -> float:
        """Returns the minimum over a window; see `mean`."""
        return self._extreme("min", window_size)

    def max(self, window_size: int | str | None = None) -> float:
        """Returns the maximum over a window; see `mean`."""
        return self._extreme("max", window_size)

    def _extreme(self, name: str, window: int | str | None) -> float:
        totals = self._totals_of(window)
        if totals is not None:
            return float(totals.parts[name]) if totals.parts else float("nan")
        values, _ = self._latest(window)
        return float(getattr(values, name)()) if len(values) else float("nan")

    @classmethod
    def register_statistics(cls, method: Statistic) -> Statistic:
        """Registers `method(history, ...)` under its name for `statistics`. Can be used as a decorator."""
        cls._registered[method.__name__] = method
        return method

    def statistics(self, method_name: str, *args: Any, **kwargs: Any) -> float:
        """Computes a statistic: mean, min, max, current, or a registered statistic.

        Raises:
            KeyError: The statistic does not exist.
        """
        if method_name in BUILTIN_STATISTICS:
            result: float = getattr(self, method_name)(*args, **kwargs)
            return result
        if method_name not in self._registered:
            raise KeyError(f"unknown statistic '{method_name}': must be one of {', '.join(known_statistics())}")
        return self._registered[method_name](self, *args, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state. A run that resumes from it computes exactly the same statistics.

        Values that are not in the totals yet are counted, because float sums depend on the grouping of values.
        """
        values, latest = self._values.cpu().double(), _as_vector(self._pending).cpu().double()
        return {
            "values": torch.cat([values, latest]),
            "counts": torch.cat([self._counts, torch.tensor(self._pending_counts, dtype=torch.float64)]),
            "waiting": len(self._pending),
            "totals": self._totals.state_dict(),
            "epoch": self._epoch.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the result of `state_dict`."""
        all_values, all_counts = (read_tensor(state, key, 1) for key in ("values", "counts"))
        if len(all_counts) != len(all_values):
            raise ValueError(
                f"values and counts must have the same length, not {len(all_values)} and {len(all_counts)}"
            )
        waiting = read_count({"waiting": 0, **state}, "waiting", most=len(all_values))
        stored = len(all_values) - waiting
        self._pending, self._pending_counts = all_values[stored:].tolist(), all_counts[stored:].tolist()
        self._averaged = waiting
        self._values = all_values[:stored][-self._capacity :].double()
        self._counts = all_counts[:stored][-self._capacity :].double()
        self._written = len(self._values)
        self._totals.load_state_dict(state["totals"])
        self._epoch.load_state_dict(state["epoch"])
        self.mark()

    def _totals_of(self, window: int | str | None) -> _Totals | None:
        if window not in ("epoch", "global", None):
            return None
        flushed = self._flushed()
        return flushed._epoch if window == "epoch" else flushed._totals

    def _latest(self, window: int | str | None) -> tuple[Values, Values]:
        wanted = min(int(window or 0), self._capacity)
        if 0 < wanted <= len(self._pending):  # the usual case for a log line
            values = _as_vector(self._pending[-wanted:]).cpu().double().numpy()
            return values, np.array(self._pending_counts[-wanted:])
        history = self._flushed()
        first = max(len(history._values) - wanted, 0)
        return history._values[first:].cpu().double().numpy(), history._counts[first:].numpy()

    def _flushed(self) -> "HistoryBuffer":
        """Returns the history without pending values. Values that are not averaged yet stay pending in the original."""
        history = copy.deepcopy(self) if self._averaged < len(self._pending) and self.averages_ranks else self
        history._flush()
        return history

    def _flush(self, number: int | None = None) -> None:
        """Joins the first `number` of the pending values, or all, with the stored ones and adds them to the totals."""
        if not self._pending:
            return
        values = _as_vector(self._pending[:number])
        counts = torch.tensor(self._pending_counts[:number], dtype=torch.float64)
        del self._pending[:number], self._pending_counts[:number]
        self._averaged = max(self._averaged - len(values), 0)
        low, high = values.aminmax()
        for totals in (self._totals, self._epoch):
            totals.add({"sum": values.sum(), "min": low, "max": high}, float(counts.sum()))
        self._written += len(values)
        # The first value after a resume may be on another device.
        self._values = torch.cat([self._values.to(values), values])[-self._capacity :]
        self._counts = torch.cat([self._counts, counts])[-self._capacity :]


def average_over_ranks(histories: Mapping[str, HistoryBuffer]) -> None:
    """Replaces the values that were added since the last call with means over the ranks. Every rank must call it.

    Histories without `averages_ranks` are not changed. A value that only some ranks have added is not averaged.
    """
    if get_world_size() == 1:
        return
    own: dict[str, list[float]] = {}
    for key, history in histories.items():
        if history.averages_ranks and all(count == 1 for count in history._pending_counts):
            own[key] = _as_vector(history._pending[history._averaged :]).tolist()
    parts = gather_objects(own)
    for key, values in own.items():
        history = histories[key]
        alike = [part[key] for part in parts if len(part.get(key, ())) == len(values)]
        history._pending[history._averaged :] = [sum(each) / len(each) for each in zip(*alike, strict=True)]
        history._averaged = len(history._pending)
        while history._averaged >= _CHUNK:
            history._flush(_CHUNK)


def known_statistics() -> list[str]:
    """Returns the names that `HistoryBuffer.statistics` accepts."""
    return [*BUILTIN_STATISTICS, *HistoryBuffer._registered]


def _as_vector(values: list[Any]) -> Tensor:
    """Converts numbers and 0-d tensors to a tensor `(N,)` on the device of the first tensor."""
    tensor = next((value for value in values if isinstance(value, Tensor)), None)
    if tensor is None:
        return torch.tensor(values, dtype=torch.float64)
    kind = torch.float32 if tensor.device.type == "mps" else torch.float64
    try:
        return torch.stack(values).detach().reshape(-1).to(kind)
    except (TypeError, RuntimeError):  # some are numbers, or devices or shapes differ
        each_alike = [torch.as_tensor(value).detach().reshape(()).to(tensor.device, kind) for value in values]
        return torch.stack(each_alike)
