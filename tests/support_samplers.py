"""Samplers of every kind that a user may write, of 16 samples in batches of 4."""

import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Sampler

from footplate.data import DefaultSampler
from footplate.registry import DATA_SAMPLERS


class Endless(Sampler[int]):
    """Never ends, and says that it has as many samples as the dataset."""

    def __init__(self, dataset: Any = range(16), seed: int = 3, **settings: Any) -> None:
        self.size = 16
        self.random = np.random.RandomState(seed)

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from self.random.permutation(self.size).tolist()

    def __len__(self) -> int:
        return self.size


class EndlessWithoutLength(Endless):
    """Never ends, and has no length."""

    __len__: Any = None


class Remembering(Endless):
    """Goes on in each pass where its own generator stands."""

    def __iter__(self) -> Iterator[int]:
        yield from self.random.permutation(self.size).tolist()


class Shorter(Remembering):
    """Yields fewer samples than its length says."""

    def __iter__(self) -> Iterator[int]:
        yield from self.random.permutation(self.size)[:12].tolist()


class Longer(Remembering):
    """Yields more samples than its length says."""

    def __iter__(self) -> Iterator[int]:
        yield from [*self.random.permutation(self.size).tolist(), *range(8)]


class WithoutLength(Remembering):
    """Ends, and has no length."""

    __len__: Any = None


class Growing(Remembering):
    """Has four samples more in each pass."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.passes = 1

    def set_epoch(self, epoch: int) -> None:
        self.passes = epoch + 1

    def __iter__(self) -> Iterator[int]:
        yield from self.random.permutation(self.size)[: len(self)].tolist()

    def __len__(self) -> int:
        return min(4 * self.passes, self.size)


class Stateful(Remembering):
    """Has its state saved."""

    loaded = 0

    def state_dict(self) -> dict[str, Any]:
        kind, keys, *rest = cast("tuple[Any, ...]", self.random.get_state())
        return {"keys": torch.tensor(keys.astype(np.int64)), "rest": [kind, *rest]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        type(self).loaded += 1
        kind, *rest = state["rest"]
        self.random.set_state((kind, state["keys"].numpy().astype(np.uint32), *rest))


class Drawing(Remembering):
    """Draws from the global generators, sample by sample."""

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.size):
            yield (random.randrange(4) + int(np.random.randint(4)) + int(torch.randint(11, ()))) % self.size


class OverEpochs(Remembering):
    """As those of most code bases: a function of seed and epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.size, generator=torch.Generator().manual_seed(self.epoch)).tolist()


class Backwards(DefaultSampler):
    """Changes what it inherits."""

    def __iter__(self) -> Iterator[int]:
        return iter(list(super().__iter__())[::-1])


class Batches(Sampler[list[int]]):
    """Batches of unequal size, with a generator of its own."""

    def __init__(self, sampler: Any = None, batch_size: int = 4, **settings: Any) -> None:
        self.random = random.Random(5)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(16))
        self.random.shuffle(order)
        for start, stop in ((0, 3), (3, 8), (8, 12), (12, 16)):
            yield order[start:stop]

    def __len__(self) -> int:
        return 4


class EndlessBatches(Batches):
    """The same without an end."""

    def __iter__(self) -> Iterator[list[int]]:
        while True:
            yield from super().__iter__()


KINDS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        Endless,
        EndlessWithoutLength,
        Remembering,
        Shorter,
        Longer,
        WithoutLength,
        Growing,
        Stateful,
        Drawing,
        OverEpochs,
        Backwards,
        Batches,
        EndlessBatches,
    )
}
# Those with a length that is the same in all epochs, and no longer than a pass.
BY_EPOCH = [name for name in KINDS if name not in ("EndlessWithoutLength", "Shorter", "WithoutLength", "Growing")]
for _name, _kind in KINDS.items():
    DATA_SAMPLERS.register_module(name=f"Own{_name}", module=_kind)


def section(name: str) -> dict[str, Any]:
    """Returns the keys of a loader with a sampler of this kind."""
    if "Batches" in name:
        return {"batch_sampler": {"type": f"Own{name}"}}
    return {"sampler": {"type": f"Own{name}"}}
