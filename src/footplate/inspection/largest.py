"""The largest batch that data allows, which decides how much memory a run needs."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch

from footplate.errors import DataError
from footplate.records import length_of
from footplate.structures import BaseDataElement

_LOOKED_AT = 64  # samples, where the data set does not tell their sizes beforehand


class Largest(NamedTuple):
    """The largest batch.

    Attributes:
        batch: The batch.
        samples: How many samples the data set has, or "unknown".
        words: What it is, in words.
    """

    batch: Any
    samples: int | str
    words: str


def largest_batch(loader: Any) -> Largest:
    """Puts together the batch of the largest samples of a loader's data set.

    Sizes are those that the data set tells (`height` and `width` of its records); where it tells none, some samples
    are read. A loader over something else gives its first batch.

    Raises:
        DataError: The loader gives nothing.
    """
    dataset: Any = getattr(loader, "dataset", None)
    collate = getattr(loader, "collate_fn", None)
    count = length_of(dataset) if dataset is not None else None
    batch_size = getattr(loader, "batch_size", None) or _of_sampler(loader)
    if not count or collate is None or not batch_size:
        return Largest(_first(loader), count or "unknown", "the first batch, since its data set has no length")
    told = [(size, index) for index, size in enumerate(_told_sizes(dataset, count))]
    if told:
        chosen = [index for _, index in sorted(told, reverse=True)[:batch_size]]
        samples = [dataset[index] for index in chosen]
        words = f"the largest by their recorded size, {_shape(samples[0])}"
    else:
        step = max(1, count // _LOOKED_AT)
        read = [dataset[index] for index in islice(range(0, count, step), _LOOKED_AT)]
        sizes = {_size(sample) for sample in read}
        samples = sorted(read, key=_size, reverse=True)[:batch_size]
        same = "all of one size" if len(sizes) == 1 else "of several sizes"
        words = f"{len(read)} looked at, {same}, at most {_shape(samples[0])}"
    while len(samples) < batch_size:
        samples.append(samples[0])
    return Largest(collate(samples), count, f"batches of {batch_size}, {words}")


def _of_sampler(loader: Any) -> int | None:
    return getattr(getattr(loader, "batch_sampler", None), "batch_size", None)


def _first(loader: Any) -> Any:
    for batch in loader:
        return batch
    raise DataError("the loader gives no batch")


def _told_sizes(dataset: Any, count: int) -> Iterator[int]:
    """Yields height times width of every record; nothing where they do not have both."""
    if not hasattr(dataset, "get_data_info"):
        return
    for index in range(count):
        info = dataset.get_data_info(index)
        if not isinstance(info, dict) or "height" not in info or "width" not in info:
            return
        yield int(info["height"]) * int(info["width"])


def _size(sample: Any) -> int:
    return sum(tensor.numel() for tensor in _tensors(sample))


def _shape(sample: Any) -> str:
    shapes = sorted((tuple(tensor.shape) for tensor in _tensors(sample) if tensor.ndim > 1), key=len, reverse=True)
    return "x".join(map(str, shapes[0])) if shapes else "no tensor"


def _tensors(sample: Any) -> Iterator[torch.Tensor]:
    if isinstance(sample, torch.Tensor):
        yield sample
    elif isinstance(sample, dict):
        for value in sample.values():
            yield from _tensors(value)
    elif isinstance(sample, (list, tuple)):
        for value in sample:
            yield from _tensors(value)
    elif isinstance(sample, BaseDataElement):
        yield from _tensors(dict(sample.items()))
