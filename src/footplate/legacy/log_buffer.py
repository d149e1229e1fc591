"""What first-generation hooks know as `runner.log_buffer`, over the message hub."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from footplate.records import MessageHub


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

    @property
    def output(self) -> OrderedDict[str, Any]:
        """The averages of the last `average`, and what hooks put beside them."""
        return self._output

    @property
    def val_history(self) -> OrderedDict[str, list[float]]:
        """The recorded values by name."""
        return OrderedDict((name, history.data[0].tolist()) for name, history in self._histories())

    @property
    def n_history(self) -> OrderedDict[str, list[float]]:
        """How many samples each recorded value is of."""
        return OrderedDict((name, history.data[1].tolist()) for name, history in self._histories())

    def update(self, values: Mapping[str, Any], count: int = 1) -> None:
        """Records several values, each a mean over `count` samples."""
        for name, value in values.items():
            self._record(name, value)

    def average(self, n: int = 0) -> None:
        """Puts the means over the latest `n` values into `output`, over all of them for 0."""
        for name, history in self._histories():
            OrderedDict.__setitem__(self._output, name, history.mean(n or None))
        self.ready = True

    def clear(self) -> None:
        """Forgets `output`; the hub keeps its histories."""
        self.clear_output()

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

    def _histories(self) -> list[tuple[str, Any]]:
        prefix = f"{self._mode()}/"
        found = self._hub.log_scalars
        return [(key[len(prefix) :], found[key]) for key in found if key.startswith(prefix) and len(found[key])]


def _is_single_tensor(value: Any) -> bool:
    return hasattr(value, "numel") and value.numel() == 1
