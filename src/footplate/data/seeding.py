"""Seeds random generators, and separates the random states for reading data from those of the run."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_MASK = (1 << 64) - 1
_END = object()


def mix_seed(*numbers: int) -> int:
    """Returns a 64-bit seed that depends on all numbers and their order.

    Example:
        >>> mix_seed(0, 1) == mix_seed(1, 0)
        False

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: finalizer of SplitMix64.
    """
    state = 0
    for number in numbers:
        state = next_seed(state, number)
    return state


def next_seed(seed: int, number: int) -> int:
    """Mixes one more number into a seed, so that `next_seed(mix_seed(a), b) == mix_seed(a, b)`."""
    state = (seed + number + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def seed_generators(seed: int) -> None:
    """Seeds the global generators of Python, numpy and torch on the CPU with a 64-bit seed."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # torch.manual_seed also seeds every accelerator, which takes a hundred times longer.
    torch.default_generator.manual_seed(seed)


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restores the global random generators after the block."""
    states = _get_states()
    try:
        yield
    finally:
        _set_states(states)


class SampleGenerators:
    """Provides separate states of the global random generators for code that reads samples.

    The generators are seeded before each sample. The numpy generator is replaced rather than copied: copying its state
    would make reading a small batch 50% slower. This discards the normally distributed value that the run's numpy
    generator may have buffered, since `np.random.randn` generates values in pairs.
    """

    def __init__(self) -> None:
        self._numpy = np.random.MT19937(0)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Activates these states during the block, and restores those of the run afterwards."""
        python, numpy, tensors = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()  # type: ignore[attr-defined]
        np.random.set_bit_generator(self._numpy)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_bit_generator(numpy)  # type: ignore[attr-defined]
            torch.set_rng_state(tensors)


class SamplerGenerators:
    """Gives custom samplers their own states of the global random generators, which persist between their calls."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: tuple[Any, ...] | None = None

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Activates these states during the block, and restores those of the run afterwards."""
        with preserve_random_state():
            if self._states is None:
                seed_generators(self._seed)
            else:
                _set_states(self._states)
            try:
                yield
            finally:
                self._states = _get_states()

    def wrap(self, iterator: Iterator[Any]) -> Iterator[Any]:
        """Yields the items of an iterator. These states are active while the iterator runs."""
        while True:
            with self.activate():
                item = next(iterator, _END)
            if item is _END:
                return
            yield item


def _get_states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_states(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
