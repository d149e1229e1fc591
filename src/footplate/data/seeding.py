"""Random state that is a function of numbers, not of what ran before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_WORD = (1 << 64) - 1


def mixed_seed(*numbers: int) -> int:
    """Returns 64 bits that depend on every number and on their order.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014), the finaliser
    of SplitMix64.

    Example:
        >>> mixed_seed(0, 1) == mixed_seed(1, 0)
        False
    """
    state = 0
    for number in numbers:
        state = next_seed(state, number)
    return state


def next_seed(seed: int, number: int) -> int:
    """Returns `mixed_seed(..., number)`, where `seed` is what it gave for the numbers before."""
    state = (seed + number + 0x9E3779B97F4A7C15) & _WORD
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
    return state ^ (state >> 31)


def seed_generators(seed: int) -> None:
    """Seeds the global generators of Python, numpy and torch on the CPU.

    Args:
        seed: 64 bits.
    """
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # torch.manual_seed visits every accelerator too, which costs a hundred times more.
    torch.default_generator.manual_seed(seed)


class SampleGenerators:
    """Global generators for reading samples, apart from those of the run.

    Numpy's is exchanged, since copying its state takes half as long as reading a small batch; of the run's numpy
    generator the second of a pair of normals is lost, which `np.random.randn` and its kin draw in pairs.
    """

    def __init__(self) -> None:
        self._numpy = np.random.MT19937(0)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Lets a block draw from generators of its own; those of the run are put back afterwards."""
        python, numpy, tensors = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()  # type: ignore[attr-defined]
        np.random.set_bit_generator(self._numpy)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_bit_generator(numpy)  # type: ignore[attr-defined]
            torch.set_rng_state(tensors)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Puts the global generators back as they were before the block."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
