"""Keeps the results of the leading transforms of a pipeline in memory."""

import copy
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

from typing_extensions import Self

from footplate.data.record_store import RecordStore
from footplate.data.transforms.pipeline import Compose
from footplate.errors import ArgumentError


class KeptSamples:
    """The results of the leading transforms for every record, and the transforms that are applied at each access.

    Samples are stored as bytes in one array; see `RecordStore`. Each access returns a copy, so transforms may modify
    it.

    Args:
        pipeline: All transforms.
        number: The number of leading transforms whose results are kept. True stands for those with `keepable = True`.
        least: The minimum for this number; 0 if the records themselves are costly to create.

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
        """Stores the results of `first` for every record; None marks a dropped record."""
        self._store = RecordStore(samples)

    @property
    def num_bytes(self) -> int:
        """The size of the samples in bytes."""
        return int(self._store.num_bytes)

    def subset(self, indices: Sequence[int]) -> Self:
        """Returns a copy with some of the samples."""
        made = copy.copy(self)
        made._store = self._store.subset(indices)
        return made

    def __getitem__(self, idx: int) -> Any:
        sample = self._store[idx]
        return None if sample is None else self.rest(sample)


def says(transform: Any, flag: str) -> bool:
    """Checks whether a class flag of a transform is set; a subclass that overrides `transform` must set it again."""
    for kind in type(transform).__mro__:
        if flag in vars(kind):
            return bool(vars(kind)[flag])
        if "transform" in vars(kind):
            return False
    return False
