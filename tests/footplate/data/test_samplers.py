from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from footplate.data import DefaultSampler, InfiniteSampler, samplers
from footplate.errors import DataError

few = settings(max_examples=20)
sizes, worlds, seeds = st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32)


def on_rank(rank: int, world: int, build: Callable[[], Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "get_rank", lambda: rank)
        patch.setattr(samplers, "get_world_size", lambda: world)
        return build()


def interleaved(shares: list[list[int]]) -> list[int]:
    longest = max(map(len, shares))
    return [share[at] for at in range(longest) for share in shares if at < len(share)]


@few
@given(sizes, worlds, seeds, st.integers(0, 3), st.booleans())
def test_ranks_share_one_order(size: int, world: int, seed: int, epoch: int, shuffle: bool) -> None:
    whole = DefaultSampler(range(size), shuffle, seed, round_up=False)
    whole.set_epoch(epoch)
    shares = []
    for rank in range(world):
        sampler = on_rank(rank, world, lambda: DefaultSampler(range(size), shuffle, seed, round_up=False))
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1])
    assert interleaved(shares) == list(whole)
    assert sorted(whole) == list(range(size))


@few
@given(sizes, worlds, seeds)
def test_round_up_repeats_the_first_samples(size: int, world: int, seed: int) -> None:
    shares = [list(on_rank(rank, world, lambda: DefaultSampler(range(size), True, seed))) for rank in range(world)]
    order = list(DefaultSampler(range(size), True, seed))
    found = interleaved(shares)
    assert {len(share) for share in shares} == {-(-size // world)}
    assert found == [order[at % size] for at in range(len(found))]


def test_the_order_is_the_permutation_of_seed_and_epoch() -> None:
    sampler = DefaultSampler(range(10), seed=5)
    sampler.set_epoch(2)
    assert list(sampler) == torch.randperm(10, generator=torch.Generator().manual_seed(7)).tolist()
    assert list(DefaultSampler(range(4), shuffle=False, seed=5)) == [0, 1, 2, 3]


@few
@given(sizes, worlds, seeds, st.integers(0, 60), st.booleans())
def test_an_endless_order_is_shared_and_can_start_anywhere(
    size: int, world: int, seed: int, start: int, shuffle: bool
) -> None:
    whole = list(islice(InfiniteSampler(range(size), shuffle, seed), (start + 20) * world))
    shares = [
        list(islice(on_rank(rank, world, lambda: InfiniteSampler(range(size), shuffle, seed)).iterate_from(start), 20))
        for rank in range(world)
    ]
    assert interleaved(shares) == whole[start * world :]
    passes = [whole[at : at + size] for at in range(0, len(whole) - size + 1, size)]
    assert all(sorted(each) == list(range(size)) for each in passes)


def test_each_pass_has_its_own_order() -> None:
    found = list(islice(InfiniteSampler(range(50), seed=1), 100))
    assert found[:50] == torch.randperm(50, generator=torch.Generator().manual_seed(1)).tolist() != found[50:]


def test_an_infinite_sampler_skips_samples_as_in_the_fork_of_mmengine() -> None:
    whole = list(islice(InfiniteSampler(range(7), seed=1), 30))
    sampler = InfiniteSampler(range(7), seed=1)
    sampler.skip(10)
    assert list(islice(sampler, 20)) == whole[10:]


@pytest.mark.parametrize("kind", [DefaultSampler, InfiniteSampler])
def test_drawing_a_seed_does_not_change_the_global_generators(kind: Any) -> None:
    state = torch.get_rng_state()
    assert kind(range(3)).seed != kind(range(3)).seed
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [DefaultSampler, InfiniteSampler])
def test_an_empty_dataset_is_refused(kind: Any) -> None:
    with pytest.raises(DataError, match="the dataset 'list' is empty"):
        kind([])


@pytest.mark.parametrize(("round_up", "expected"), [(True, [[4, 1], [3, 0], [2, 4]]), (False, [[4, 1], [3, 0], [2]])])
def test_subclasses_split_their_own_order_with_the_sizes_of_the_sampler(
    round_up: bool, expected: list[list[int]]
) -> None:
    class Reversed(DefaultSampler):
        def __iter__(self) -> Iterator[int]:
            order = [*reversed(range(self.size)), *reversed(range(self.size))]
            return iter(order[self.rank : self.total_size : self.world_size])

        def __len__(self) -> int:
            return self.num_samples

    ranks = [on_rank(rank, 3, lambda: Reversed(range(5), round_up=round_up)) for rank in range(3)]
    assert [list(sampler) for sampler in ranks] == expected
    assert [len(sampler) for sampler in ranks] == [len(share) for share in expected]
