"""A counter that worker processes share."""

from multiprocessing import context
from multiprocessing.sharedctypes import RawArray
from typing import Any

from torch.utils.data import get_worker_info

_SLOTS = 256


class SharedCount:
    """A counter in memory that the main process shares with its forked or spawned workers; copies are independent.

    Each worker has its own slot, so that no locks are needed.

    Args:
        value: The initial value.
    """

    def __init__(self, value: int = 0) -> None:
        self._slots: Any = RawArray("q", _SLOTS)
        self._slots[0] = value

    @property
    def value(self) -> int:
        """The sum over all processes."""
        return sum(self._slots)

    def add(self) -> int:
        """Adds 1 and returns the sum over all processes."""
        worker = get_worker_info()
        self._slots[0 if worker is None else 1 + worker.id % (_SLOTS - 1)] += 1
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        if context.get_spawning_popen() is None:
            return SharedCount, (self.value,)
        return _shared, (self._slots,)


def skipped_in(dataset: Any) -> int:
    """Returns the number of samples that a dataset and the datasets that it wraps have skipped."""
    inside = list(getattr(dataset, "datasets", None) or ())
    if hasattr(dataset, "dataset"):
        inside.append(dataset.dataset)
    own = getattr(dataset, "skipped", 0)
    return (own if isinstance(own, int) else 0) + sum(skipped_in(each) for each in inside)


def _shared(slots: Any) -> SharedCount:
    made = SharedCount.__new__(SharedCount)
    made._slots = slots
    return made
