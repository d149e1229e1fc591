"""Collective operations across ranks, and a check that all ranks have the same parameters."""

import pickle
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from footplate.errors import RankError
from footplate.messages import list_names

Group: TypeAlias = "dist.ProcessGroup | None"  # a string, because torch may be built without process groups
_T = TypeVar("_T")
_PADDING = object()
_MAX_RANKS = 8  # in a message


def is_distributed() -> bool:
    """Checks whether a process group is initialized."""
    return dist.is_available() and dist.is_initialized()


def get_rank(group: Group = None) -> int:
    """Returns this process's rank in `group` (by default, among all processes), or 0 without a process group."""
    return dist.get_rank(group) if is_distributed() else 0


def get_world_size(group: Group = None) -> int:
    """Returns the number of ranks in `group` (by default, of all processes), or 1 without a process group."""
    return dist.get_world_size(group) if is_distributed() else 1


def is_main_process(group: Group = None) -> bool:
    """Checks whether this process is rank 0 in `group` (by default, among all processes)."""
    return get_rank(group) == 0


def broadcast_object(value: _T) -> _T:
    """Returns the `value` of rank 0 on all ranks. All ranks must call this function."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def compute_on_ranks(compute: Callable[[], _T]) -> list[_T]:
    """Calls a function on each rank. Returns the results of all ranks, in rank order, on every rank.

    If `compute` fails on any rank, all ranks raise the error of the lowest rank on which it failed. Use this function
    if the result or error decides whether a rank runs a later collective, so that all ranks take the same path
    (decision 037). `compute` must not contain a collective.
    """
    raised: Exception | None = None
    try:
        outcome: Any = compute(), None
    except Exception as error:  # noqa: BLE001 - raised again, on every rank
        raised = error
        outcome = (None, _portable(error))
    outcomes = gather_objects(outcome)
    for rank, (_, received) in enumerate(outcomes):
        if received is not None:
            if rank == get_rank() and raised is not None:
                raise raised  # the original error, with its traceback
            raise received
    return [result for result, _ in outcomes]


def compute_on_main(compute: Callable[[], _T]) -> _T:
    """Calls a function on rank 0, and returns its result or raises its error on all ranks; see `compute_on_ranks`.

    Use this function where ranks might get different results, for example when listing a folder that is being written
    to.
    """
    return compute_on_ranks(compute if is_main_process() else lambda: None)[0]  # type: ignore[return-value]


def _portable(error: Exception) -> Exception:
    """Returns an error that other ranks can receive: the error itself, or a RankError if it cannot be pickled."""
    try:
        return pickle.loads(pickle.dumps(error))  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - user-defined exceptions may raise anything
        return RankError(f"rank {get_rank()} raised {type(error).__name__}: {error}")


@torch.no_grad()
def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrites tensors on all ranks with the values from rank 0. Skips sharded tensors."""
    if not is_distributed():
        return
    for tensor in tensors:
        if tensor.numel() and not hasattr(tensor, "to_local"):  # not a DTensor, whose import is slow
            value = tensor.detach().contiguous()
            dist.broadcast(value, src=0)
            tensor.copy_(value)


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replaces the gradients of trainable parameters with their means over all ranks.

    A missing gradient counts as zero.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if not trainable:
        return
    for parameter in trainable:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients: list[Any] = [parameter.grad for parameter in trainable]
    means = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(means)
    means /= get_world_size()
    for gradient, mean in zip(gradients, torch.split(means, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def gather_objects(value: _T, group: Group = None) -> list[_T]:
    """Gathers one value per rank of a group. Returns the values in rank order, on every rank of the group."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * get_world_size(group)
    dist.all_gather_object(values, value, group)
    return values


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    backward = forward


all_reduce_sum: Callable[[Tensor], Tensor] = _AllReduceSum.apply
"""Returns the sum of a tensor over all ranks. Gradients are also summed over all ranks."""


def gather_rows(rows: Tensor) -> Tensor:
    """Returns the rows of all ranks, in rank order, for losses that compare the samples of a global batch.

    Gradients pass through to the ranks that the rows come from: after DistributedDataParallel has averaged them, they
    are the gradients of the mean of all ranks' losses. All ranks must call this function in the same order, and also
    take part in the backward pass. Without a process group, returns `rows`.

    Args:
        rows: A tensor of shape ``(N, ...)``. N may differ between ranks.
    """
    if get_world_size() == 1:
        return rows
    sizes = torch.zeros(get_world_size(), dtype=torch.int64, device=rows.device)
    sizes[get_rank()] = len(rows)
    dist.all_reduce(sizes, dist.ReduceOp.MAX)
    slots = list(torch.split(rows.new_zeros(int(sizes.sum()), *rows.shape[1:]), sizes.tolist()))
    slots[get_rank()] = rows
    return all_reduce_sum(torch.cat(slots))


def collect_results(results: Sequence[_T], size: int) -> list[_T] | None:
    """Collects results on rank 0, in dataset order. Returns None on other ranks.

    Args:
        results: One entry per sample. Rank r of n has the entries for samples r, r + n, r + 2n, ...
        size: The number of samples in the dataset. Extra entries, which a sampler added as padding, are dropped.
    """
    if not is_distributed():
        return list(results[:size])
    parts: list[Any] | None = [None] * get_world_size() if is_main_process() else None
    dist.gather_object(results, parts)
    if parts is None:
        return None
    rows = zip_longest(*parts, fillvalue=_PADDING)
    return [entry for entry in chain.from_iterable(rows) if entry is not _PADDING][:size]


def check_same_parameters(model: nn.Module) -> None:
    """Checks that all ranks have the same parameters: names, shapes, dtypes, and which ones are frozen.

    All ranks must call this function.

    Raises:
        RankError: The parameters differ. All ranks raise this error. The message shows the first parameter that
            differs.
    """
    if get_world_size() == 1:
        return
    described = [
        f"{name}: {'x'.join(map(str, value.shape)) or 'scalar'} {str(value.dtype).removeprefix('torch.')}"
        f"{'' if value.requires_grad else ', frozen'}"
        for name, value in model.named_parameters()
    ]
    compare_with_main(
        described,
        "the parameters on %s differ from the parameters on rank 0",
        "Use the same config, dataset and code path on all ranks.",
    )


def compare_with_main(mine: Sequence[str], message: str, hint: str) -> None:
    """Checks that the strings in `mine` are the same on all ranks. All ranks must call this function.

    Args:
        mine: The strings on this rank, such as descriptions of parameters.
        message: The error message, with `%s` for the ranks that differ from rank 0.
        hint: The likely cause of a difference, or advice.

    Raises:
        RankError: The strings differ. All ranks raise this error.
    """
    pairs = zip_longest(mine, broadcast_object(mine), fillvalue="nothing")
    difference = next((f"{here} on rank {get_rank()}, {there} on rank 0" for here, there in pairs if here != there), "")
    differences = gather_objects(difference)
    ranks = [number for number, text in enumerate(differences) if text]
    if ranks:
        raise RankError(message % format_ranks(ranks), notes=[differences[ranks[0]], hint])


def format_ranks(ranks: Sequence[int]) -> str:
    """Formats rank numbers for messages.

    >>> format_ranks([2]), format_ranks([0, 1, 2])
    ('rank 2', 'ranks 0, 1, 2')
    """
    return f"rank{'s' if len(ranks) > 1 else ''} {list_names(ranks, _MAX_RANKS)}"
