"""Resumes custom samplers, whose order is not determined by the seed and the epoch alone."""

import copy
import logging
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SequentialSampler
from torch.utils.data.sampler import SubsetRandomSampler, WeightedRandomSampler

from footplate.data.seeding import seed_generators

_logger = logging.getLogger("footplate.data")
_PURE = (BatchSampler, SequentialSampler, DistributedSampler)
_DRAWING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_END = object()


def begins_anywhere(sampler: Any) -> bool:
    """Checks whether `iterate_from` matches `__iter__`, which fails if a subclass overrides only `__iter__`."""
    owners = [_owner(sampler, name) for name in ("iterate_from", "__iter__")]
    return None not in owners and issubclass(owners[0], owners[1])  # type: ignore[arg-type]


def is_known(sampler: Any) -> bool:
    """Checks whether the order of a pass depends only on its index, and the length of the sampler is reliable."""
    if begins_anywhere(sampler) or type(sampler) in _PURE:
        return True
    return type(sampler) in _DRAWING and getattr(sampler, "generator", None) is None


def _owner(value: Any, name: str) -> type | None:
    return next((kind for kind in type(value).__mro__ if name in vars(kind)), None)


class OwnSamplers:
    """Restores custom samplers in a resumed run to their state in an uninterrupted run.

    Samplers with `state_dict` and `load_state_dict` are restored to their state at the start of the pass. Other
    samplers are iterated through all earlier passes again, which reads no data.

    Args:
        samplers: The custom samplers of a loader.
    """

    def __init__(self, samplers: Sequence[Any]) -> None:
        self._samplers = list(samplers)
        self._passes = 0  # the number of passes that were started
        self._at_begin: list[dict[str, Any]] | None = None

    def __bool__(self) -> bool:
        return bool(self._samplers)

    def begin(self, epoch: int, go_through: Callable[[int], Iterable[Any]]) -> None:
        """Brings the samplers to the start of pass `epoch`.

        Args:
            epoch: The index of the pass.
            go_through: Returns an iterable that runs the samplers through the pass of a given index.
        """
        if not self._samplers:
            return
        if epoch > self._passes:
            names = ", ".join(type(each).__name__ for each in self._samplers)
            _logger.info("%s: %d earlier passes are repeated without reading data", names, epoch - self._passes)
        for earlier in range(self._passes, epoch):
            deque(go_through(earlier), maxlen=0)
        self._passes = max(self._passes, epoch + 1)
        self._at_begin = self._states()

    def state_dict(self, epoch: int) -> list[dict[str, Any]] | None:
        """Returns the states at the start of the current pass `epoch`; None if a sampler has no state."""
        return self._at_begin if self._at_begin is not None and self._passes > epoch else self._states()

    def can_load(self, states: Sequence[Any]) -> bool:
        """Checks whether there is a state for each sampler, and each sampler can load one."""
        return len(states) == len(self._samplers) and self._have_state()

    def load_state_dict(self, states: Sequence[dict[str, Any]], epoch: int) -> None:
        """Restores states that `state_dict` returned during pass `epoch`."""
        for sampler, state in zip(self._samplers, states, strict=True):
            sampler.load_state_dict(copy.deepcopy(state))
        self._passes = epoch

    def _states(self) -> list[dict[str, Any]] | None:
        return [copy.deepcopy(each.state_dict()) for each in self._samplers] if self._have_state() else None

    def _have_state(self) -> bool:
        return all(hasattr(each, "state_dict") and hasattr(each, "load_state_dict") for each in self._samplers)


class KeptGenerators:
    """Separate states of the global random generators for custom samplers, kept between their calls.

    Args:
        seed: The initial seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: tuple[Any, ...] | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Switches the global generators to these states within a block, and restores those of the run afterwards."""
        before = _captured()
        if self._states is None:
            seed_generators(self._seed)
        else:
            _restore(self._states)
        try:
            yield
        finally:
            self._states = _captured()
            _restore(before)

    def around(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Yields the items of an iterator, which uses these generators."""
        while True:
            with self.lent():
                found = next(iterator, _END)
            if found is _END:
                return
            yield found


def _captured() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _restore(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def warn_of_length(samplers: Iterable[Any], length: int) -> None:
    """Warns that samplers yield more than their length."""
    names = ", ".join(type(each).__name__ for each in samplers)
    _logger.warning("%s yields more samples than its length says. Each epoch ends after %d batches.", names, length)
