"""Measures what determines the memory of a run: its largest batch, and the sizes of its state and activations."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from footplate.data import WebDataset, length_of
from footplate.data.batch_plan import BatchKey
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.data.loader import BatchReader, ReadFailure
from footplate.data.structures import BaseDataElement
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import local_tensor
from footplate.engine import Runner
from footplate.errors import DataError
from footplate.hooks import EMAHook
from footplate.messages import pluralize
from footplate.tools.failing_module import is_out_of_memory

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
        DataError: The loader has no batches, or a sample cannot be read or collated.
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
    reads_samples = any(isinstance(each, WebDataset) for each in innermost_datasets(dataset))
    if hasattr(dataset, "get_data_info") and not reads_samples:
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
    indices = list(chosen)
    read = dict(zip(indices, _read(dataset, indices, list), strict=True))

    def size(index: int) -> int:
        return sum(tensor.numel() for _, tensor in tensors_in(read[index]))

    def side(index: int, axis: int) -> int:
        return max((tensor.shape[axis] for _, tensor in tensors_in(read[index]) if tensor.ndim > 2), default=0)

    ordered = sorted(indices, key=size, reverse=True)
    largest = ordered[0]
    extreme = [max(ordered, key=lambda each: side(each, axis)) for axis in (-1, -2)]  # the widest and the tallest
    samples = list(dict.fromkeys([largest, *extreme]))
    if recorded or len(read) == count:  # otherwise, unread samples may be as large as the largest one
        samples += [each for each in ordered if each not in samples]
    samples = [*samples, *[largest] * batch_size][:batch_size]
    shape = _describe_shape(read[largest])
    if recorded:
        sizes = f"the largest by their recorded size, {shape}"
    elif len(set(map(size, read))) == 1:
        sizes = f"{len(read)} inspected, all of the same size, {shape}"
    else:
        sizes = f"{len(read)} inspected, of several sizes, at most {shape}"
    return Largest(_read(read, samples, collate), count, f"batches of {batch_size}, {sizes}")


def _read(dataset: Any, indices: Sequence[int], collate: Callable[[Any], Any]) -> Any:
    """Reads a batch of samples. Errors contain the index of the sample, as in a run."""
    batch = BatchReader(dataset, collate=collate, seed=0)[BatchKey(0, range(len(indices)), indices)]
    if isinstance(batch, ReadFailure):
        if is_out_of_memory(batch.cause):  # not a problem of the data
            raise batch.cause
        batch.throw()
    return batch


def _describe_shape(sample: Any) -> str:
    """Returns the shape of the tensor with the most dimensions, such as "3x32x32"."""
    shape = max((tuple(tensor.shape) for _, tensor in tensors_in(sample)), key=len, default=None)
    if shape is None:
        return f"no tensors in a sample of type {type(sample).__name__}"
    return "x".join(map(str, shape)) if len(shape) > 1 else pluralize(math.prod(shape), "number")


def tensors_in(found: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields each tensor in nested values with its path, such as `[0]` or `.loss`."""
    if isinstance(found, Tensor):
        yield key, found
    elif isinstance(found, (Mapping, BaseDataElement)):
        for name, each in found.items():
            yield from tensors_in(each, f"{key}.{name}")
    elif isinstance(found, (list, tuple)):
        for place, each in enumerate(found):
            yield from tensors_in(each, f"{key}[{place}]")


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Returns the total size of tensors in bytes. A sharded tensor counts with its local shard only."""
    return sum(each.numel() * each.element_size() for each in map(local_tensor, tensors))


@contextmanager
def counting_activations(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Measures the tensors that the block saves for the backward pass.

    A module with activation checkpointing saves its inputs. Weights and buffers are not counted, except for the
    gathered weights of a sharded model.

    Yields:
        A function that returns the total size in bytes so far.
    """
    state = map(local_tensor, chain(model.parameters(), model.buffers()))
    known = {each.untyped_storage().data_ptr() for each in state}
    kept: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        memory = local_tensor(tensor).untyped_storage()
        if memory.data_ptr() not in known:
            kept[memory.data_ptr()] = memory.nbytes()
        return tensor

    def record_inputs(module: nn.Module, args: Any, kwargs: Any) -> None:
        for each in tree_leaves((args, kwargs)) if torch.is_grad_enabled() else ():
            if isinstance(each, Tensor):
                record(each)

    checkpointed = [each for each in model.modules() if hasattr(each, "checkpointed_name")]
    hooks = [each.register_forward_pre_hook(record_inputs, with_kwargs=True) for each in checkpointed]
    try:
        with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            yield lambda: sum(kept.values())
    finally:
        for hook in hooks:
            hook.remove()


def state_bytes(runner: Runner) -> dict[str, int]:
    """Returns the size of each part of a run's state in this process, in bytes.

    The optimizer has no state before its first step. The key "averages" exists only if the run has an EMAHook.
    """
    model = unwrap_model(runner.model)
    states = [state for part in runner.optim_wrapper.parts.values() for state in part.optimizer.state.values()]
    found = {
        "weights": bytes_of(chain(model.parameters(), model.buffers())),
        "gradients": bytes_of(each for each in model.parameters() if each.requires_grad),
        "optimizer": bytes_of(each for state in states for each in state.values() if isinstance(each, Tensor)),
    }
    averages = [each.ema_model for each in runner.hooks if isinstance(each, EMAHook) and each.ema_model is not None]
    if averages:
        found["averages"] = bytes_of(chain(*(chain(each.parameters(), each.buffers()) for each in averages)))
    return found
