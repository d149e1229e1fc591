"""Finds the largest batch of a run, and measures the memory of its state and activations."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from footplate.data import dataset_of, length_of
from footplate.data.batch_plan import BatchKey
from footplate.data.data_container import DataContainer
from footplate.data.data_element import BaseDataElement
from footplate.data.loader import BatchReader, ReadFailure, SampleLoader
from footplate.distributed import unwrap_model
from footplate.distributed.sharding import local_tensor
from footplate.engine import Runner
from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.hooks import EMAHook
from footplate.messages import pluralize
from footplate.tools.data_speed import DataSpeed, timing_transforms
from footplate.tools.failing_module import is_out_of_memory
from footplate.tools.label_counts import LabelCounter, Labels, counting_labels

_MAX_READ = 64  # samples


class Largest(NamedTuple):
    """The largest batch of a dataset."""

    batch: Any
    samples: int | str  # the number of samples in the dataset, or "unknown"
    description: str
    labels: Labels | None = None  # of the inspected samples
    speed: DataSpeed | None = None


def largest_batch(loader: Any) -> Largest:
    """Builds the dataloader batch that is likely to need the most memory.

    Reads samples spread over the dataset, and compares their sizes after the transforms. If the batch size allows, the
    batch contains the largest, the widest and the tallest sample, because padding may extend all samples to the
    greatest height and width. If the whole dataset was read, the next largest samples fill the rest of the batch.
    Otherwise, copies of the largest sample fill the batch.

    Also counts the labels of the samples that were read, and measures how long that takes.

    If the dataset has no length, or the loader has no batch size or `collate_fn`, returns the first batch.

    Raises:
        DataError: The loader has no batches, or a sample cannot be read or collated.
    """
    dataset, collate = dataset_of(loader), getattr(loader, "collate_fn", None)
    count = length_of(dataset) if dataset is not None else None
    batch_size = getattr(loader, "batch_size", None)
    batch_size = batch_size or getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    if not count or collate is None or not batch_size:
        for batch in loader:
            return Largest(batch, count or "unknown", "the first batch, which may not be the largest")
        raise DataError("the dataloader has no batches", notes=["Check the dataset and drop_last."])
    indices = _inspected(count)
    with (
        at_key(getattr(loader, "key", "")),
        counting_labels(dataset) as counter,
        timing_transforms(dataset) as times,
    ):
        begin = perf_counter()
        read = dict(zip(indices, _read(dataset, indices, list), strict=True))
        seconds = perf_counter() - begin - times.pop(LabelCounter.__name__, 0.0)
    times["the dataset"] = seconds - sum(times.values())
    speed = DataSpeed(seconds / len(indices), {name: taken / len(indices) for name, taken in times.items()})

    def size(index: int) -> int:
        return sum(tensor.numel() for _, tensor in tensors_in(read[index]))

    def side(index: int, axis: int) -> int:
        return max((tensor.shape[axis] for _, tensor in tensors_in(read[index]) if tensor.ndim > 2), default=0)

    ordered = sorted(indices, key=size, reverse=True)
    largest, widest, tallest = ordered[0], *(max(ordered, key=lambda index: side(index, axis)) for axis in (-1, -2))
    rest = ordered if len(read) == count else []
    samples = [*dict.fromkeys([largest, widest, tallest, *rest]), *[largest] * batch_size][:batch_size]
    is_uniform = len(set(map(_describe_shape, read.values()))) == 1
    varied = "all of the same size," if is_uniform else "of several sizes, at most"
    sizes = f"{len(read)} inspected, {varied} {_describe_shape(read[largest])}"
    labels = counter.labels_of(dataset, read[largest], are_complete=len(read) == count)
    return Largest(_read(read, samples, collate), count, f"batches of {batch_size}, {sizes}", labels, speed)


def labels_in(loader: Any) -> Labels | None:
    """Returns the labels of the samples that `largest_batch` inspects, including those of unreadable samples.

    Returns None if there are no class names, no labels, or several kinds of labels.
    """
    dataset, packed = dataset_of(loader), None
    with counting_labels(dataset) as counter:
        for index in _inspected(length_of(dataset) or 0):
            with suppress(Exception):
                packed = dataset[index]
    return counter.labels_of(dataset, packed, are_complete=False)


def _inspected(count: int) -> list[int]:
    """Returns the indices of the samples to inspect."""
    size = min(count, _MAX_READ)
    return [place * count // size for place in range(size)]


def _read(source: Any, indices: Sequence[int], collate: Callable[[Any], Any]) -> Any:
    """Reads a batch of samples from a dataset or a dict. Error messages include the sample index, as in a run."""
    loader = SampleLoader(source, sampler=indices, collate_fn=collate)
    batch = BatchReader(loader)[BatchKey(0, range(len(indices)), indices)]
    if isinstance(batch, ReadFailure):
        if is_out_of_memory(batch.cause):  # not a data error
            raise batch.cause
        raise batch.error from batch.cause
    return batch


def _describe_shape(sample: Any) -> str:
    """Formats the shape of the tensor with the most dimensions, such as "3x32x32"."""
    shape = max((tuple(tensor.shape) for _, tensor in tensors_in(sample)), key=len, default=None)
    if shape is None:
        return f"no tensors in a sample of type {type(sample).__name__}"
    return "x".join(map(str, shape)) if len(shape) > 1 else pluralize(math.prod(shape), "number")


def tensors_in(value: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields a pair (path, tensor) for each tensor in nested values. A path has the form `[0]` or `.loss`."""
    if isinstance(value, Tensor):
        yield key, value
    elif isinstance(value, (Mapping, BaseDataElement)):
        for name, item in value.items():
            yield from tensors_in(item, f"{key}.{name}")
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from tensors_in(item, f"{key}[{place}]")
    elif isinstance(value, DataContainer):
        yield from tensors_in(value.data, key)


def bytes_of(tensors: Iterable[Any]) -> int:
    """Returns the total size of the tensors in bytes. For sharded tensors, counts only local shards.

    Values that are not tensors are ignored.
    """
    return sum(local_tensor(value).nbytes for value in tensors if isinstance(value, Tensor))


@contextmanager
def counting_activations(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Measures the total size of the tensors that are saved for the backward pass inside the `with` block.

    With activation checkpointing, a module saves only its inputs. Weights and buffers are not counted, except for the
    gathered weights of a sharded model.

    Yields:
        A function that returns the total size in bytes so far.
    """
    known = {local_tensor(value).untyped_storage().data_ptr() for value in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        memory = local_tensor(tensor).untyped_storage()
        if memory.data_ptr() not in known:
            kept[memory.data_ptr()] = memory.nbytes()
        return tensor

    def record_inputs(module: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled():
            for _, tensor in tensors_in((args, kwargs)):
                record(tensor)

    checkpointed = [module for module in model.modules() if hasattr(module, "checkpointed_name")]
    hooks = [module.register_forward_pre_hook(record_inputs, with_kwargs=True) for module in checkpointed]
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
    sizes = {
        "weights": bytes_of((*model.parameters(), *model.buffers())),
        "gradients": bytes_of(parameter for parameter in model.parameters() if parameter.requires_grad),
        "optimizer": bytes_of(value for state in states for value in state.values()),
    }
    for hook in runner.hooks:  # at most one of them averages the weights
        if isinstance(hook, EMAHook) and hook.ema_model is not None:
            sizes["averages"] = bytes_of((*hook.ema_model.parameters(), *hook.ema_model.buffers()))
    return sizes
