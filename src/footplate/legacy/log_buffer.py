"""What first-generation hooks know as `runner.log_buffer`, over the message hub."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from footplate.records import HistoryBuffer, MessageHub

# What the engine records by itself; the first generation has it from `runner.current_lr()`.
_OF_THE_ENGINE = ("lr", "base_lr", "momentum")
_KEPT_COUNTS = 1 << 13


class _Output(OrderedDict[str, Any]):
    """Values for the next line of the log; what a hook puts in is recorded."""

    def __init__(self, record: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._record = record

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._record(name, value)


class LogBuffer:
    """Collects values by name, as the first generation did; everything lands in the message hub.

    Args:
        hub: The run's message hub.
        mode: Tells the mode of the moment, "train" or "val".
    """

    def __init__(self, hub: MessageHub, mode: Callable[[], str]) -> None:
        self._hub = hub
        self._mode = mode
        self.ready = False
        self._output = _Output(self._record)
        self._counts: dict[str, deque[float]] = {}
        self._begin: dict[str, int] = {}

    @property
    def output(self) -> OrderedDict[str, Any]:
        """The averages of the last `average`, and what hooks put beside them."""
        return self._output

    @property
    def val_history(self) -> OrderedDict[str, list[float]]:
        """The recorded values by name, since the last `clear`."""
        return OrderedDict((name, values.tolist()) for name, values, _ in self._histories())

    @property
    def n_history(self) -> OrderedDict[str, list[float]]:
        """How many samples each recorded value is of."""
        return OrderedDict((name, counts.tolist()) for name, _, counts in self._histories())

    def update(self, values: Mapping[str, Any], count: int = 1) -> None:
        """Records several values, each a mean over `count` samples."""
        for name, value in values.items():
            self._record(name, value)
            self._counts.setdefault(f"{self._mode()}/{name}", deque(maxlen=_KEPT_COUNTS)).append(count)

    def average(self, n: int = 0) -> None:
        """Puts the means over the latest `n` values into `output`, over all since the last `clear` for 0."""
        for name, values, counts in self._histories(n):
            OrderedDict.__setitem__(self._output, name, float((values * counts).sum() / counts.sum()))
        self.ready = True

    def clear(self) -> None:
        """Begins anew, as an epoch does; the hub keeps its histories."""
        self._begin = {key: history.total for key, history in self._hub.log_scalars.items()}
        self.clear_output()

    def show(self, values: Mapping[str, Any]) -> None:
        """Has `output` hold these values alone, which are recorded already."""
        self.clear_output()
        for name, value in values.items():
            OrderedDict.__setitem__(self._output, name, value)
        self.ready = True

    def clear_output(self) -> None:
        """Forgets `output`."""
        self._output.clear()
        self.ready = False

    def _record(self, name: str, value: Any) -> None:
        key = f"{self._mode()}/{name}"
        if isinstance(value, (int, float)) or getattr(value, "size", None) == 1 or _is_single_tensor(value):
            self._hub.update_scalar(key, value)
        else:
            self._hub.update_info(key, value)

    def _histories(self, latest: int = 0) -> list[tuple[str, Any, Any]]:
        """Returns name, values and counts of what was recorded in this mode since the last `clear`."""
        prefix = f"{self._mode()}/"
        found = []
        for key, history in self._hub.log_scalars.items():
            name = key.removeprefix(prefix)
            since = history.total - self._begin.get(key, 0)
            if key.startswith(prefix) and name not in _OF_THE_ENGINE and since > 0:
                found.append((name, *self._recent(key, history, min(latest or since, since))))
        return found

    def _recent(self, key: str, history: HistoryBuffer, number: int) -> tuple[Any, Any]:
        values = history.data[0][-number:]
        counts = np.ones(len(values))
        own = list(self._counts.get(key, ()))[-len(values) :]
        counts[len(values) - len(own) :] = own
        return values, counts


def _is_single_tensor(value: Any) -> bool:
    return hasattr(value, "numel") and value.numel() == 1
