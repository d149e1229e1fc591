"""Seeds random generators, keeps their states for reading data apart from those of the run, and saves all states."""

import logging
import math
import random
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch

from footplate.errors import CheckpointError

_logger = logging.getLogger("footplate.data")
_KEYS = frozenset({"python", "numpy", "torch", "devices"})
_ADVICE = ["To load only the weights, set `load_from` without `resume`."]
_WORDS = 624  # the size of a Mersenne Twister's state
_LARGEST_WORD = (1 << 32) - 1
# The layout of torch's CPU generator state: seed, words left, seeded flag, next word, the words, a pair of normal
# float64 numbers and their radius, a flag whether one of them is unused, and a normal float32 number with its flag.
_CPU_STATE = struct.Struct(f"<QiiQ{_WORDS}Q3di4xf?3x")
_MASK = (1 << 64) - 1  # seeds have 64 bits
_END = object()


def mix_seed(*numbers: int) -> int:
    """Returns a 64-bit seed that depends on all numbers and their order.

    Example:
        >>> mix_seed(0, 1) == mix_seed(1, 0)
        False

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: finalizer of SplitMix64.
    """
    return reduce(next_seed, numbers, 0)


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


class _InvalidStateError(Exception):
    """Raised if a generator state is invalid. The arguments are the violated rule and the value found."""


class RngStates(NamedTuple):
    """Validated states in the form that the generators accept."""

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: torch.Tensor
    devices: Mapping[str, list[torch.Tensor]]


def capture_rng() -> dict[str, Any]:
    """Returns the states of the generators of Python, numpy, and torch on the CPU and all accelerators.

    The result contains only tensors, numbers and strings, so that it can be loaded with `weights_only=True`.
    """
    version, words, spare = random.getstate()
    kind = _accelerator()
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
        "devices": {} if kind is None else {kind: [_module(kind).get_rng_state(index) for index in _indices_of(kind)]},
    }


def restore_rng(state: Mapping[str, Any], part: str = "random") -> None:
    """Sets every generator to the state that `capture_rng` returned.

    The whole state is checked before any generator is changed; see `check_rng` for the errors. Devices that do not
    exist on this machine are skipped with a warning. `part` is the key path of the state in the checkpoint, for error
    messages.
    """
    checked = check_rng(state, part)
    random.setstate(checked.python)
    np.random.set_state(checked.numpy)
    torch.set_rng_state(checked.torch)
    for kind, states in checked.devices.items():
        indices = _indices_of(kind)
        if len(indices) != len(states):
            _logger.warning(
                "The checkpoint was saved with %d device(s) of type '%s', but this machine has %d.",
                len(states),
                kind,
                len(indices),
            )
        for index, entry in zip(indices, states, strict=False):
            _module(kind).set_rng_state(entry, index)


def check_rng(state: Any, part: str = "random") -> RngStates:
    """Checks that `restore_rng` can restore a state, and returns it in the form that the generators accept.

    The native generators do not check their state: an out-of-range position would crash the process.

    Raises:
        CheckpointError: A generator is missing from the state, or its state is invalid; the message names it.
    """
    with _checking(part):
        _require(isinstance(state, Mapping), "it must be a dict", type(state).__name__)
        missing = sorted(_KEYS - state.keys())
        _require(not missing, f"it has no {', '.join(map(repr, missing))}", list(state))
    with _checking(f"{part}.python"):
        python = state["python"]
        _require(isinstance(python, Mapping), "it must be a dict", type(python).__name__)
        version, spare = python["version"], python["spare"]
        _require(type(version) is int and version == random.Random.VERSION, "its version is unknown", version)
        is_valid = spare is None or (type(spare) is float and math.isfinite(spare))
        _require(is_valid, "'spare' must be None or a finite number", spare)
        words = _checked_words(python["words"], _WORDS + 1).tolist()
        _require(words[-1] <= _WORDS, f"its position must be from 0 to {_WORDS}", words[-1])
        python_state = (version, tuple(words), spare)
        random.Random().setstate(python_state)
    numpy_state = _checked_numpy(state["numpy"], f"{part}.numpy")
    torch_state = checked_generator_state(state["torch"], f"{part}.torch")
    with _checking(f"{part}.devices"):
        _require(isinstance(state["devices"], Mapping), "it must be a dict", type(state["devices"]).__name__)
    devices = {}
    for kind, states in state["devices"].items():
        name = f"{part}.devices.{kind}"
        with _checking(name):
            is_list = type(kind) is str and isinstance(states, (list, tuple))
            _require(is_list, "it must be a list", type(states).__name__)
            for each in states:
                _require(isinstance(each, torch.Tensor), "it must be a list of tensors", type(each).__name__)
                is_vector = each.dtype == torch.uint8 and each.dim() == 1
                _require(is_vector, "it must be a list of vectors of bytes", each.dtype)
            devices[kind] = [each.detach().cpu() for each in states]
        for index, _ in zip(_indices_of(kind), states, strict=False):
            devices[kind][index] = checked_generator_state(states[index], name, f"{kind}:{index}")
    return RngStates(python_state, numpy_state, torch_state, devices)


def checked_generator_state(value: Any, part: str, device: "torch.device | str" = "cpu") -> torch.Tensor:
    """Returns the state of a device's torch generator. Raises a CheckpointError if the state is invalid."""
    with _checking(part):
        _require(isinstance(value, torch.Tensor), "it must be a tensor", type(value).__name__)
        _require(value.dtype == torch.uint8 and value.dim() == 1, "it must be a vector of bytes", value)
        state: torch.Tensor = value.detach().cpu().contiguous()
        own = torch.Generator(device)
        size = own.get_state().numel()
        _require(state.numel() == size, f"it must have {size} bytes", state.numel())
        own.set_state(state)
        if own.device.type == "cpu":
            _check_cpu_state(state)
        return state


def _check_cpu_state(state: torch.Tensor) -> None:
    _, left, seeded, position, *rest = _CPU_STATE.unpack(state.numpy().tobytes())
    *words, first, second, radius, has_pair, single, has_single = rest
    # torch stores both numbers and reads out of bounds if they do not match.
    is_fresh = (left, position) == (1, 0)
    is_begun = 1 <= left <= _WORDS and left + position == _WORDS + 1
    _require(is_fresh or is_begun, f"its position must be from 0 to {_WORDS}", position)
    _require(seeded == 1 and has_pair in (0, 1), "its flags must be 0 or 1", (seeded, has_pair))
    _require(max(words) <= _LARGEST_WORD, "its words must have 32 bits", max(words))
    normals = ((first, second, radius) if has_pair else ()) + ((single,) if has_single else ())
    _require(all(map(math.isfinite, normals)), "its spare normal numbers must be finite", normals)


def _checked_numpy(state: Any, part: str) -> tuple[Any, ...]:
    with _checking(part):
        _require(isinstance(state, Mapping), "it must be a dict", type(state).__name__)
        name, position = state["name"], state["position"]
        has_spare, spare = state["has_spare"], state["spare"]
        _require(type(name) is str and name == "MT19937", "'name' must be 'MT19937'", name)
        _require(
            type(position) is int and 0 <= position <= _WORDS,
            f"'position' must be an integer from 0 to {_WORDS}",
            position,
        )
        _require(type(has_spare) is int and has_spare in (0, 1), "'has_spare' must be 0 or 1", has_spare)
        _require(type(spare) is float and math.isfinite(spare), "'spare' must be a finite number", spare)
        keys = _checked_words(state["keys"], _WORDS).numpy().astype(np.uint32)
        return (name, keys, position, has_spare, spare)


def _checked_words(words: Any, count: int) -> torch.Tensor:
    """Checks the words of a Mersenne Twister and returns them as an int64 tensor `(count,)`."""
    _require(isinstance(words, torch.Tensor), "its words must be a tensor", type(words).__name__)
    _require(words.dtype == torch.int64, "its words must be of dtype int64", words.dtype)
    _require(tuple(words.shape) == (count,), f"there must be {count} words", tuple(words.shape))
    checked: torch.Tensor = words.detach().cpu()
    _require(
        bool(((checked >= 0) & (checked <= _LARGEST_WORD)).all()),
        "its words must have 32 bits",
        "larger or negative words",
    )
    return checked


@contextmanager
def _checking(part: str) -> Iterator[None]:
    """Converts any exception raised in the block to a CheckpointError that names the part."""
    try:
        yield
    except _InvalidStateError as error:
        message, found = error.args
        raise CheckpointError(
            f"the random state '{part}' in the checkpoint {message}", found=found, notes=_ADVICE
        ) from None
    except Exception as error:
        message = f"the random state '{part}' in the checkpoint cannot be restored: {type(error).__name__}: {error}"
        raise CheckpointError(message, notes=_ADVICE) from error


def _require(is_right: bool, rule: str, found: object) -> None:
    if not is_right:
        raise _InvalidStateError(f"cannot be restored: {rule}", found)


def _accelerator() -> str | None:
    """Returns the type of the accelerators of this machine, or None if it has none."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if device is None else device.type


def _indices_of(kind: str) -> range:
    """Returns the indices of this machine's devices of a given type."""
    return range(torch.accelerator.device_count() if kind == _accelerator() else 0)


def _module(kind: str) -> Any:
    return torch.get_device_module(kind)
