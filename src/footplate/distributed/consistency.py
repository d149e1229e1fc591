"""Checks that all ranks have the same parameters."""

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from footplate.distributed.collectives import gather_objects, get_world_size
from footplate.distributed.failure_report import format_ranks
from footplate.errors import RankError

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_same_parameters(model: nn.Module) -> None:
    """Checks that parameter names, shapes and dtypes are the same on all ranks. Every rank must call this.

    Raises:
        RankError: They differ. Raised on all ranks; the message names the first parameter that differs.
    """
    if get_world_size() > 1:
        _compare_across_ranks(
            [(name, _describe(value)) for name, value in model.named_parameters()],
            "the parameters on %s differ from those on %s",
            "a config, a dataset or a branch in the code differs between ranks",
        )


def check_same_weights(model: nn.Module) -> None:
    """Checks that parameter values are the same on all ranks. Every rank must call this.

    Compares sums of the parameters' bits, which are computed on their device. Sharded parameters are skipped.

    Raises:
        RankError: They differ. Raised on all ranks; the message names the first parameter that differs.
    """
    if get_world_size() == 1:
        return
    # Recognizes a DTensor by its method, because importing the class is slow.
    unsharded = [(name, value.detach()) for name, value in model.named_parameters() if not hasattr(value, "to_local")]
    sums = _bit_sums([value for _, value in unsharded])
    _compare_across_ranks(
        [(name, str(each)) for (name, _), each in zip(unsharded, sums, strict=True)],
        "the initial weights on %s differ from those on %s",
        "weights that are initialized after wrapping, or loaded, must be the same on each rank",
    )


def _describe(value: torch.Tensor) -> str:
    kind = str(value.dtype).removeprefix("torch.")
    return f"{'x'.join(map(str, value.shape)) or 'scalar'} {kind}{'' if value.requires_grad else ', frozen'}"


def _bit_sums(values: Iterable[torch.Tensor]) -> list[list[int]]:
    """Returns for each tensor the sum of all its bit patterns and that of every second one."""
    sums = []
    for value in values:
        plain = torch.view_as_real(value) if value.is_complex() else value
        bits = plain.contiguous().view(_BITS[plain.element_size()]).flatten()
        sums.append(torch.stack([bits.sum(dtype=torch.int64), bits[::2].sum(dtype=torch.int64)]))
    return torch.stack([each.cpu() for each in sums]).tolist() if sums else []


def _compare_across_ranks(mine: Sequence[tuple[str, str]], message: str, hint: str) -> None:
    digests = gather_objects(hashlib.sha256(repr(mine).encode()).hexdigest())
    majority = max(digests, key=lambda each: (digests.count(each), -digests.index(each)))
    same = [rank for rank, each in enumerate(digests) if each == majority]
    others = [rank for rank, each in enumerate(digests) if each != majority]
    if not others:
        return
    lists = gather_objects(mine)
    rank, reference = others[0], same[0]
    here, there = dict(lists[rank]), dict(lists[reference])
    name = next((each for each in [*there, *here] if here.get(each) != there.get(each)), None)
    raise RankError(
        message % (format_ranks(others), format_ranks(same)),
        notes=[*_difference(name, here, there, rank, reference), hint],
    )


def _difference(name: str | None, here: dict[str, str], there: dict[str, str], rank: int, reference: int) -> list[str]:
    if name is None:
        return ["the parameters are in a different order"]
    if name not in here or name not in there:
        return [f"'{name}' exists only on rank {rank if name in here else reference}"]
    if here[name].startswith("["):  # sums of bits, which mean nothing to the user
        return [f"'{name}' is the first parameter that differs"]
    return [f"'{name}' is {here[name]} on rank {rank}, {there[name]} on rank {reference}"]
