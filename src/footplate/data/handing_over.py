"""Batches that a worker cannot hand to the main process."""

import multiprocessing.queues
import pickle
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_LONGEST = 256  # batches that may wait to be handed over; older ones have been


class HandOver:
    """Sends an error in the place of a batch that cannot be pickled, for which the main process would wait for ever.

    A worker's queue pickles in a thread of its own, and drops what it cannot. It has a method for that case, which is
    exchanged here, in the process of the worker alone.

    Args:
        failure: Makes what is sent instead, from the indices of the samples and the error.
    """

    def __init__(self, failure: Callable[[Sequence[Any], Exception], Any]) -> None:
        self._failure = failure
        self._waiting: deque[tuple[int, Sequence[Any]]] = deque(maxlen=_LONGEST)

        def on_error(queue: Any, error: Exception, message: Any) -> None:
            number, batch = message
            queue.put((number, self._failure(self._blamed(batch), error)))

        multiprocessing.queues.Queue._on_queue_feeder_error = on_error  # type: ignore[attr-defined]

    def note(self, batch: Any, indices: Sequence[Any]) -> None:
        """Notes of which samples a batch is made that is about to be handed over."""
        self._waiting.append((id(batch), indices))

    def _blamed(self, batch: Any) -> Sequence[Any]:
        """Returns the sample that cannot be pickled, or all of the batch where its parts do not tell."""
        indices = next((each for known, each in reversed(self._waiting) if known == id(batch)), ())
        for place, index in enumerate(indices):
            if any(not _can_be_pickled(part[place]) for part in _parts(batch, len(indices))):
                return [index]
        return indices


def _parts(batch: Any, size: int) -> list[Sequence[Any]]:
    """Returns the lists in a batch that hold an entry for each sample."""
    found = batch.values() if isinstance(batch, Mapping) else [batch]
    return [part for part in found if isinstance(part, (list, tuple)) and len(part) == size]


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # whatever a class raises there
        return False
    return True
