"""Samplers of a user's own: nothing is known of them but what they yield, pass after pass."""

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
    """Checks whether `iterate_from` says what `__iter__` does: a subclass that overrides only `__iter__` does not."""
    owners = [_owner(sampler, name) for name in ("iterate_from", "__iter__")]
    return None not in owners and issubclass(owners[0], owners[1])  # type: ignore[arg-type]


def is_known(sampler: Any) -> bool:
    """Checks whether the order of a pass is a function of its number, and the length is what the sampler says."""
    if begins_anywhere(sampler) or type(sampler) in _PURE:
        return True
    return type(sampler) in _DRAWING and getattr(sampler, "generator", None) is None


def _owner(value: Any, name: str) -> type | None:
    return next((kind for kind in type(value).__mro__ if name in vars(kind)), None)


class OwnSamplers:
    """Lets samplers begin each pass as they would in a run that was never interrupted.

    A sampler with `state_dict` and `load_state_dict` is put where it was when the pass began. Where one has neither,
    it is gone through all earlier passes again, which reads no data.

    Args:
        samplers: Those of a loader that are not known.
    """

    def __init__(self, samplers: Sequence[Any]) -> None:
        self._samplers = list(samplers)
        self._passes = 0  # how many passes they have begun
        self._at_begin: list[dict[str, Any]] | None = None

    def __bool__(self) -> bool:
        return bool(self._samplers)

    def begin(self, epoch: int, go_through: Callable[[int], Iterable[Any]]) -> None:
        """Puts the samplers where pass `epoch` begins.

        Args:
            epoch: The number of the pass.
            go_through: Yields what the samplers give in a pass, of its number.
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
        """Returns the states at the beginning of the present pass, `epoch`; None unless each sampler has one."""
        return self._at_begin if self._at_begin is not None and self._passes > epoch else self._states()

    def load_state_dict(self, states: Sequence[dict[str, Any]], epoch: int) -> None:
        """Takes what `state_dict` gave within pass `epoch`."""
        for sampler, state in zip(self._samplers, states, strict=True):
            sampler.load_state_dict(copy.deepcopy(state))
        self._passes = epoch

    def _states(self) -> list[dict[str, Any]] | None:
        if not all(hasattr(each, "state_dict") and hasattr(each, "load_state_dict") for each in self._samplers):
            return None
        return [copy.deepcopy(each.state_dict()) for each in self._samplers]


class KeptGenerators:
    """Global generators of a pass over samplers, whose state is kept from one call to the next.

    Args:
        seed: What they begin with.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: tuple[Any, ...] | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Lets a block draw from these generators; those of the run are put back afterwards."""
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
        """Yields what an iterator gives, which draws from these generators."""
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
    """Warns that samplers give more batches than their length says."""
    names = ", ".join(type(each).__name__ for each in samplers)
    _logger.warning("%s yields more samples than its length says. Each epoch ends after %d batches.", names, length)
