"""What the first transforms of a pipeline make of every record, kept in memory."""

import copy
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from typing_extensions import Self

from footplate.data.compose import Compose
from footplate.data.record_store import RecordStore
from footplate.errors import ArgumentError


class KeptSamples:
    """What the first transforms make of every record, and the transforms that act again.

    Samples are kept as bytes in one array, see `RecordStore`; asking for one copies it, so transforms may
    change it.

    Args:
        pipeline: All transforms.
        number: How many act beforehand; True: the leading ones that say `keepable = True`.
        least: How many that are at least; 0 where records themselves cost time to make.

    Raises:
        ArgumentError: No transform acts beforehand, or fewer are there.
    """

    def __init__(self, pipeline: Compose, number: bool | int, *, least: int = 1) -> None:
        transforms = pipeline.transforms
        keepable = takewhile(lambda transform: says(transform, "keepable"), transforms)
        number = len(list(keepable)) if number is True else number
        if not least <= number <= len(transforms):
            raise ArgumentError(
                "keep_in_memory is True, for the transforms that load at the beginning, or their number",
                key="keep_in_memory",
                found=number,
            )
        self.pipeline = pipeline
        self.first = Compose(transforms[:number])
        self.rest = Compose(transforms[number:])
        self._store: Any = RecordStore()

    def fill(self, samples: Iterable[Any]) -> None:
        """Keeps what `first` made of every record, None for one that it gave up."""
        self._store = RecordStore(samples)

    @property
    def num_bytes(self) -> int:
        """The memory that the samples take."""
        return int(self._store.num_bytes)

    def subset(self, indices: Sequence[int]) -> Self:
        """Returns some of the samples."""
        made = copy.copy(self)
        made._store = self._store.subset(indices)
        return made

    def __getitem__(self, idx: int) -> Any:
        sample = self._store[idx]
        return None if sample is None else self.rest(sample)


def says(transform: Any, flag: str) -> bool:
    """Checks whether a transform says something of itself; one that overrides `transform` has to say it anew."""
    for kind in type(transform).__mro__:
        if flag in vars(kind):
            return bool(vars(kind)[flag])
        if "transform" in vars(kind):
            return False
    return False
