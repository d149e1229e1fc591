"""Whether all ranks see the same parameters."""

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from footplate.distributed.collectives import gather_objects, get_world_size
from footplate.distributed.failure_report import format_ranks
from footplate.errors import RankError

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_same_parameters(model: nn.Module) -> None:
    """Sees to it that names, shapes and types of the parameters are the same on each rank; each calls it.

    Raises:
        RankError: They are not; names the first parameter that differs. On all ranks.
    """
    if get_world_size() > 1:
        _compare(
            [(name, _described(value)) for name, value in model.named_parameters()],
            "other parameters on %s than on %s",
            "a config, a dataset or a branch in the code differs between ranks",
        )


def check_same_weights(model: nn.Module) -> None:
    """Sees to it that the parameters hold the same values on each rank; each calls it.

    Sums of their bits are compared, made on their device. Those that are sharded are left out.

    Raises:
        RankError: They do not; names the first parameter that differs. On all ranks.
    """
    if get_world_size() == 1:
        return
    # By its method, since importing the class of sharded tensors takes longer than all else of footplate.
    whole = [(name, value.detach()) for name, value in model.named_parameters() if not hasattr(value, "to_local")]
    sums = _bits([value for _, value in whole])
    _compare(
        [(name, str(each)) for (name, _), each in zip(whole, sums, strict=True)],
        "other weights at the start on %s than on %s",
        "weights that are initialized after wrapping, or loaded, must be the same on each rank",
    )


def _described(value: torch.Tensor) -> str:
    kind = str(value.dtype).removeprefix("torch.")
    return f"{'x'.join(map(str, value.shape)) or 'scalar'} {kind}{'' if value.requires_grad else ', frozen'}"


def _bits(values: Iterable[torch.Tensor]) -> list[list[int]]:
    """Returns two sums of the bits of each tensor, read from their device at once."""
    sums = []
    for value in values:
        plain = torch.view_as_real(value) if value.is_complex() else value
        bits = plain.contiguous().view(_BITS[plain.element_size()]).flatten()
        sums.append(torch.stack([bits.sum(dtype=torch.int64), bits[::2].sum(dtype=torch.int64)]))
    return torch.stack([each.cpu() for each in sums]).tolist() if sums else []


def _compare(mine: Sequence[tuple[str, str]], what: str, why: str) -> None:
    digests = gather_objects(hashlib.sha256(repr(mine).encode()).hexdigest())
    usual = max(digests, key=lambda each: (digests.count(each), -digests.index(each)))
    others = [rank for rank, each in enumerate(digests) if each != usual]
    if not others:
        return
    lists = gather_objects(mine)
    rank, like = others[0], digests.index(usual)
    here, there = dict(lists[rank]), dict(lists[like])
    name = next((each for each in [*there, *here] if here.get(each) != there.get(each)), None)
    raise RankError(
        what % (format_ranks(others), format_ranks(_alike(digests, usual))),
        notes=[*_difference(name, here, there, rank, like), why],
    )


def _alike(digests: Sequence[str], usual: str) -> list[int]:
    return [rank for rank, each in enumerate(digests) if each == usual]


def _difference(name: str | None, here: dict[str, str], there: dict[str, str], rank: int, like: int) -> list[str]:
    if name is None:
        return ["the parameters are in a different order"]
    if name not in here or name not in there:
        return [f"'{name}' is only on rank {rank if name in here else like}"]
    if here[name].startswith("["):  # sums of bits say nothing to anybody
        return [f"'{name}' is the first parameter that differs"]
    return [f"'{name}' is {here[name]} on rank {rank}, {there[name]} on rank {like}"]
