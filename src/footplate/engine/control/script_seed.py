"""Finds the seed that the script has passed to `torch.manual_seed`.

A run without `randomness.seed` uses this seed. torch does not record who has set its seed, so runs mark the seeds that
they set, in bits that do not affect the random numbers of the CPU. `torch.initial_seed()` therefore returns a marked
number once a runner exists. In a new process, the seed is random and does not come from the script either.
"""

import torch

_MARK = 0xF007 << 32  # the upper 32 bits of the seeds that runs set
_INITIAL_SEED = torch.initial_seed()  # of a new process, unless the script has already called `torch.manual_seed`
_script_seed: int | None = None


def set_marked_seed(seed: int) -> None:
    """Seeds torch with a number below 2**32, and marks it as the seed of a run."""
    torch.manual_seed(seed)
    torch.default_generator.manual_seed(_MARK | seed)


def remember_script_seed() -> int | None:
    """Returns the seed that the script has last passed to `torch.manual_seed`, or None. Ignores seeds of runs.

    Call this before a run replaces the seed. A script's seed of 2**32 or more is ignored if it was set before footplate
    was imported, because it cannot be told from the random seed of a new process.
    """
    global _script_seed
    seed = torch.initial_seed()
    is_of_run = seed >> 32 == _MARK >> 32
    is_random = seed == _INITIAL_SEED and seed >= 1 << 32
    if not is_of_run and not is_random:
        _script_seed = seed
    return _script_seed
