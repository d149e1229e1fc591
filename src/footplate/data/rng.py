"""Seeds, isolates, saves and restores the global random generators."""

import logging
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce, wraps
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from footplate.checks import read_count
from footplate.error_context import restoring

_logger = logging.getLogger("footplate.data")
_WORDS = 624  # the size of a Mersenne Twister's state
_MASK = (1 << 64) - 1  # seeds have 64 bits
_END = object()
_Item = TypeVar("_Item")


def mix_seed(*numbers: int) -> int:
    """Mixes numbers into a 64-bit seed that depends on all of them and on their order.

    Example:
        >>> mix_seed(0, 1) == mix_seed(1, 0)
        False

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: finalizer of SplitMix64.
    """
    return reduce(next_seed, numbers, 0)


def next_seed(seed: int, number: int) -> int:
    """Mixes another number into a seed, so that `next_seed(mix_seed(a), b) == mix_seed(a, b)`."""
    state = (seed + number + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)


def seed_generators(seed: int) -> None:
    """Seeds the global CPU generators of Python, numpy and torch with a 64-bit seed."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    # torch.manual_seed would also seed every accelerator, which takes a hundred times longer.
    torch.default_generator.manual_seed(seed)


def seed_albumentations() -> None:
    """Makes Albumentations derive its random numbers from Python's generator, so that they are reproducible.

    Since version 1.4.19, each `Compose` has its own, unseeded generators. A seed set by the user still applies.
    """
    compose: Any = getattr(sys.modules.get("albumentations"), "Compose", None)
    if not hasattr(compose, "set_random_seed") or hasattr(compose.__call__, "__wrapped__"):
        return
    call = compose.__call__

    @wraps(call)
    def seeded_call(self: Any, *args: Any, **data: Any) -> Any:
        if self.seed is None:
            self.set_random_seed(random.getrandbits(32))
            self.seed = None
        return call(self, *args, **data)

    compose.__call__ = seeded_call


def find_randomizables(dataset: Any) -> list[Any]:
    """Returns MONAI's random transforms and datasets in the attributes of a dataset, each of which has a generator.

    Like MONAI's `set_rnd`, searches nested attributes and lists. Does not search random transforms, because they seed
    their parts themselves, sometimes with equal seeds.
    """
    cls: Any = getattr(sys.modules.get("monai.transforms"), "Randomizable", ())  # a tuple if it is not loaded
    parts = [dataset] if cls else []
    seen, randomizables = set(), []
    for part in parts:  # grows in the loop
        if id(part) in seen or isinstance(part, ModuleType):
            continue
        seen.add(id(part))
        if isinstance(part, cls):
            randomizables.append(part)
        if isinstance(part, (list, tuple)):
            parts += [item for item in part if not isinstance(item, (int, float, str))]
        elif isinstance(part, Dataset) or not isinstance(part, cls):
            parts += getattr(part, "__dict__", {}).values()
    return randomizables


@contextmanager
def preserve_random_state(others: Iterable[torch.Generator] = ()) -> Iterator[None]:
    """Restores the global CPU generators of Python, numpy and torch, and other generators, at the end of the block."""
    states = random_states(others)
    try:
        yield
    finally:
        set_random_states(states, others)


class SampleGenerators:
    """Prevents code that reads samples from changing the run's global random generators.

    The numpy generator is replaced rather than copied, because copying its state would slow down reading a small batch
    by 50%. Replacing it discards a value that `np.random.randn` may have buffered, because this function generates
    values in pairs.
    """

    def __init__(self) -> None:
        self._numpy = np.random.MT19937(0)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Replaces the numpy generator inside the block, then restores the run's Python, numpy and torch CPU states."""
        python = random.getstate()
        numpy = np.random.get_bit_generator()  # type: ignore[attr-defined]
        tensors = torch.get_rng_state()
        np.random.set_bit_generator(self._numpy)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_bit_generator(numpy)  # type: ignore[attr-defined]
            torch.set_rng_state(tensors)


def with_separate_generators(
    iterator: Iterator[_Item], seed: int, seeds: Mapping[torch.Generator, int]
) -> Iterator[_Item]:
    """Yields the items of an iterator that runs with separate random generators, which are seeded with `seed`.

    The generators in `seeds` are replaced too. Each has its own seed.
    """
    with preserve_random_state(seeds):
        seed_generators(seed)
        for generator, own_seed in seeds.items():
            generator.manual_seed(own_seed)
        states = random_states(seeds)
    while True:
        with preserve_random_state(seeds):
            set_random_states(states, seeds)
            item = next(iterator, _END)
            states = random_states(seeds)
        if item is _END:
            return
        yield item  # type: ignore[misc]  # not _END


def random_states(others: Iterable[torch.Generator] = ()) -> tuple[Any, ...]:
    """Returns the states of the global CPU generators of Python, numpy and torch, and of other torch generators."""
    torch_states = [generator.get_state() for generator in (torch.default_generator, *others)]
    return random.getstate(), np.random.get_state(), *torch_states


def set_random_states(states: tuple[Any, ...], others: Iterable[torch.Generator] = ()) -> None:
    """Restores the states that `random_states` returned."""
    random.setstate(states[0])
    np.random.set_state(states[1])
    for generator, state in zip((torch.default_generator, *others), states[2:], strict=True):
        generator.set_state(state)


def capture_rng() -> dict[str, Any]:
    """Returns the states of the Python, numpy and torch random generators, on the CPU and all accelerators.

    The result contains only tensors, numbers and strings, and can be loaded with `weights_only=True`.
    """
    version, words, spare = random.getstate()
    devices: dict[str, list[torch.Tensor]] = {}
    if (device_type := _accelerator()) is not None:
        devices[device_type] = [
            torch.get_device_module(device_type).get_rng_state(index) for index in _indices_of(device_type)
        ]
    name, keys, position, has_spare, normal = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "spare": spare},
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            "position": int(position),
            "has_spare": int(has_spare),
            "spare": float(normal),
        },
        "torch": torch.get_rng_state(),
        "devices": devices,
    }


def restore_rng(state: Mapping[str, Any]) -> None:
    """Restores the state that `capture_rng` returned.

    Checks the whole state before changing any generator; see `check_rng` for the errors. Skips devices that do not
    exist on this machine, with a warning.
    """
    cpu_states, devices = check_rng(state)
    set_random_states(cpu_states)
    for device_type, states in devices.items():
        indices = _indices_of(device_type)
        if len(indices) != len(states):
            message = "The checkpoint was saved with %d device(s) of type '%s', but this machine has %d."
            _logger.warning(message, len(states), device_type, len(indices))
        for index, device_state in zip(indices, states, strict=False):
            torch.get_device_module(device_type).set_rng_state(device_state, index)


def check_rng(state: Any, part: str = "random") -> tuple[tuple[Any, ...], dict[str, list[torch.Tensor]]]:
    """Checks that `restore_rng` can restore a state. Returns the states for `set_random_states`, and of all devices.

    Raises:
        CheckpointError: The state of a generator is missing or invalid.
    """
    with restoring(part):
        python, numpy = state["python"], state["numpy"]
        python_state = (python["version"], tuple(python["words"].tolist()), python["spare"])
        random.Random().setstate(python_state)
        position = read_count(numpy, "position", most=_WORDS)  # numpy would read out of bounds
        keys = numpy["keys"].numpy().reshape(_WORDS)
        numpy_state = (numpy["name"], keys, position, numpy["has_spare"], numpy["spare"])
        np.random.RandomState().set_state(numpy_state)
        torch.Generator().set_state(state["torch"])
        return (python_state, numpy_state, state["torch"]), dict(state["devices"])


def _accelerator() -> str | None:
    """Returns the accelerator type of this machine, or None if there is no accelerator."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if device is None else device.type


def _indices_of(device_type: str) -> range:
    """Returns the indices of all devices of a type on this machine."""
    return range(torch.accelerator.device_count() if device_type == _accelerator() else 0)
