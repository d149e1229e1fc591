"""Measures how long a dataset's transforms take, and compares this with the time of a training iteration."""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

from footplate.data.dataset_wrappers import innermost_datasets
from footplate.messages import pluralize

_SHOWN = 0.02  # the least share of a transform in the description


class DataSpeed(NamedTuple):
    """How long a sample takes.

    Attributes:
        seconds: The seconds per sample in one process.
        parts: The part of each transform, by class name, and of the dataset.
    """

    seconds: float
    parts: dict[str, float]

    def describe(self, workers: int) -> str:
        """Returns the times, and the samples per second with a number of workers; 0 for the main process."""
        parts = sorted(self.parts.items(), key=lambda part: -part[1])
        texts = [f"{name} {seconds * 1e3:.3g}" for name, seconds in parts if seconds > _SHOWN * self.seconds]
        where = pluralize(workers, "worker") if workers else "num_workers=0"
        rate = f"{self._rate(workers):,.1f} samples per second with {where}"
        return f"{self.seconds * 1e3:.3g} ms per sample ({', '.join(texts)}), {rate}"

    def describe_bottleneck(self, workers: int, batch_size: int, step: float) -> str:
        """Returns whether training waits for data, if an iteration needs `step` seconds without waiting."""
        needed, rate = batch_size / step, self._rate(workers)
        if rate >= needed:
            return f"the model, which uses {needed:,.1f} samples per second"
        enough = math.ceil(needed * self.seconds)
        slowest = max(self.parts, key=self.parts.__getitem__)
        part = f"{slowest} takes {self.parts[slowest] * 1e3:.3g} of {self.seconds * 1e3:.3g} ms"
        limit = os.cpu_count() or 1
        remedy = f"{pluralize(enough, 'worker')} would do"
        if enough > limit:
            remedy += f", but there are {pluralize(limit, 'processor')}"
        return f"the data: {part}. The model uses {needed:,.1f} samples per second, for which {remedy}"

    def _rate(self, workers: int) -> float:
        return max(1, workers) / self.seconds


@contextmanager
def timing_transforms(dataset: Any) -> Iterator[dict[str, float]]:
    """Adds up the seconds that each transform of the dataset's pipelines takes in this process inside the block."""
    times = defaultdict[str, float](float)
    pipelines = [getattr(getattr(leaf, "pipeline", None), "transforms", None) for leaf in innermost_datasets(dataset)]
    lists = [(transforms, [*transforms]) for transforms in pipelines if isinstance(transforms, list)]

    def timed(transform: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(results: Any) -> Any:
            begin = perf_counter()
            try:
                return transform(results)
            finally:
                times[type(transform).__name__] += perf_counter() - begin

        return run

    for transforms, originals in lists:
        transforms[:] = map(timed, originals)
    try:
        yield times
    finally:
        for transforms, originals in lists:
            transforms[:] = originals
