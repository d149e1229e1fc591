"""A number that worker processes count up together."""

from multiprocessing import context
from multiprocessing.sharedctypes import RawArray
from typing import Any

from torch.utils.data import get_worker_info

_SLOTS = 256


class SharedCount:
    """Counts in memory that the main process shares with its workers, forked or spawned; a copy counts by itself.

    Each worker has a slot of its own, so that nobody waits.

    Args:
        value: Where it begins.
    """

    def __init__(self, value: int = 0) -> None:
        self._slots: Any = RawArray("q", _SLOTS)
        self._slots[0] = value

    @property
    def value(self) -> int:
        """What all have counted."""
        return sum(self._slots)

    def add(self) -> int:
        """Counts one more and returns the sum."""
        worker = get_worker_info()
        self._slots[0 if worker is None else 1 + worker.id % (_SLOTS - 1)] += 1
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        if context.get_spawning_popen() is None:
            return SharedCount, (self.value,)
        return _shared, (self._slots,)


def skipped_in(dataset: Any) -> int:
    """Returns how many samples a data set has skipped since it was made, those inside of it included."""
    inside = list(getattr(dataset, "datasets", None) or ())
    if hasattr(dataset, "dataset"):
        inside.append(dataset.dataset)
    own = getattr(dataset, "skipped", 0)
    return (own if isinstance(own, int) else 0) + sum(skipped_in(each) for each in inside)


def _shared(slots: Any) -> SharedCount:
    made = SharedCount.__new__(SharedCount)
    made._slots = slots
    return made
