"""Finds the largest batch of a dataset, which determines the memory that a run needs."""

from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from footplate.data import length_of
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.errors import DataError
from footplate.tools.layer_trace import tensors_in

_MAX_READ = 64  # samples to read if the dataset does not record their sizes


class Largest(NamedTuple):
    """The largest batch of a dataset."""

    batch: Any
    samples: int | str  # the number of samples in the dataset, or "unknown"
    description: str


def largest_batch(loader: Any) -> Largest:
    """Builds the batch of a loader that needs the most memory.

    Reads samples and compares them after their transforms. If the dataset's records have `height` and `width`, the
    largest, tallest and widest samples are read first, then samples spread over the dataset. Padding may extend all
    samples to the greatest height and width, so the batch includes the tallest and the widest sample. If only some
    samples were read and sizes are not recorded, the batch is filled with copies of the largest sample. If the dataset
    has no length, returns the first batch of the loader.

    Raises:
        DataError: The loader has no batches.
    """
    dataset: Any = getattr(loader, "dataset", None)
    collate = getattr(loader, "collate_fn", None)
    count = length_of(dataset) if dataset is not None else None
    batch_size = getattr(loader, "batch_size", None) or getattr(
        getattr(loader, "batch_sampler", None), "batch_size", None
    )
    if not count or collate is None or not batch_size:
        for batch in loader:
            return Largest(batch, count or "unknown", "the first batch, since the dataset has no length")
        raise DataError("the dataloader has no batches")
    recorded: list[tuple[int, int]] = []
    # Records are not read if creating one is as costly as reading a sample.
    makes_samples = any(getattr(each, "makes_samples", False) for each in innermost_datasets(dataset))
    if hasattr(dataset, "get_data_info") and not makes_samples:
        with suppress(AttributeError, KeyError, TypeError):  # no sizes, or a wrapper of a dataset without records
            infos = (dataset.get_data_info(index) for index in range(count))
            recorded = [(int(info["height"]), int(info["width"])) for info in infos]
    chosen: dict[int, None] = {}  # ordered set of indices
    measures = ([height * width for height, width in recorded], *zip(*recorded, strict=True)) if recorded else ()
    for values in measures:
        ordered = sorted(range(count), key=lambda index: (-values[index], index))
        chosen.update(dict.fromkeys(ordered[: min(batch_size, _MAX_READ)]))
    step = max(1, count // _MAX_READ)
    chosen.update(dict.fromkeys(islice(range(0, count, step), max(_MAX_READ - len(chosen), 0))))
    read = [dataset[index] for index in chosen]

    def side(sample: Any, axis: int) -> int:
        return max((tensor.shape[axis] for _, tensor in tensors_in(sample) if tensor.ndim > 2), default=0)

    ordered = sorted(read, key=_size, reverse=True)
    largest = ordered[0]
    extreme = [max(ordered, key=lambda each: side(each, axis)) for axis in (-1, -2)]  # the widest and the tallest
    samples = list({id(sample): sample for sample in [largest, *extreme]}.values())
    if recorded or len(read) == count:  # otherwise, unread samples may be as large as the largest one
        samples += [each for each in ordered if all(each is not other for other in samples)]
    samples = [*samples, *[largest] * batch_size][:batch_size]
    shapes = sorted(
        (tuple(tensor.shape) for _, tensor in tensors_in(largest) if tensor.ndim > 1), key=len, reverse=True
    )
    shape = "x".join(map(str, shapes[0])) if shapes else "no tensor"
    if recorded:
        sizes = f"the largest by their recorded size, {shape}"
    elif len({_size(sample) for sample in read}) == 1:
        sizes = f"{len(read)} inspected, all of the same size, {shape}"
    else:
        sizes = f"{len(read)} inspected, of several sizes, at most {shape}"
    return Largest(collate(samples), count, f"batches of {batch_size}, {sizes}")


def _size(sample: Any) -> int:
    return sum(tensor.numel() for _, tensor in tensors_in(sample))
