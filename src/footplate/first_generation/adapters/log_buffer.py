"""The `runner.log_buffer` of first-generation hooks, implemented with the message hub."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from footplate.records import HistoryBuffer, MessageHub

# Values that the engine records; first-generation loggers read them from `runner.current_lr()`.
_ENGINE_SCALARS = ("lr", "base_lr", "momentum")
_KEPT_COUNTS = 1 << 13


class _Output(OrderedDict[str, Any]):
    """The values for the next log line; values that a hook assigns are also recorded in the message hub."""

    def __init__(self, record: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._record = record

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._record(name, value)


class LogBuffer:
    """Collects values to log by name and records them in the message hub.

    Args:
        hub: The message hub of the run.
        mode: Returns the current mode, "train" or "val".
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
        """The averages of the last call of `average`, and values that hooks assigned."""
        return self._output

    @property
    def val_history(self) -> OrderedDict[str, list[float]]:
        """The recorded values by name, since the last `clear`."""
        return OrderedDict((name, values.tolist()) for name, values, _ in self._histories())

    @property
    def n_history(self) -> OrderedDict[str, list[float]]:
        """The number of samples of each recorded value."""
        return OrderedDict((name, counts.tolist()) for name, _, counts in self._histories())

    def update(self, values: Mapping[str, Any], count: int = 1) -> None:
        """Records several values, each a mean over `count` samples."""
        for name, value in values.items():
            self._record(name, value)
            self._counts.setdefault(f"{self._mode()}/{name}", deque(maxlen=_KEPT_COUNTS)).append(count)

    def average(self, n: int = 0) -> None:
        """Writes the means of the latest `n` values to `output`; for 0, of all values since the last `clear`."""
        for name, values, counts in self._histories(n):
            OrderedDict.__setitem__(self._output, name, float((values * counts).sum() / counts.sum()))
        self.ready = True

    def clear(self) -> None:
        """Starts new averages and clears `output`; the message hub keeps its histories."""
        self._begin = {key: history.total for key, history in self._hub.log_scalars.items()}
        self.clear_output()

    def replace_output(self, values: Mapping[str, Any]) -> None:
        """Replaces `output` by values that are already recorded."""
        self.clear_output()
        for name, value in values.items():
            OrderedDict.__setitem__(self._output, name, value)
        self.ready = True

    def clear_output(self) -> None:
        """Clears `output`."""
        self._output.clear()
        self.ready = False

    def _record(self, name: str, value: Any) -> None:
        key = f"{self._mode()}/{name}"
        if isinstance(value, (int, float)) or getattr(value, "size", None) == 1 or _is_single_tensor(value):
            self._hub.update_scalar(key, value)
        else:
            self._hub.update_info(key, value)

    def _histories(self, latest: int = 0) -> list[tuple[str, Any, Any]]:
        """Returns names, values and counts of the scalars recorded in this mode since the last `clear`."""
        prefix = f"{self._mode()}/"
        found = []
        for key, history in self._hub.log_scalars.items():
            name = key.removeprefix(prefix)
            since = history.total - self._begin.get(key, 0)
            if key.startswith(prefix) and name not in _ENGINE_SCALARS and since > 0:
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
