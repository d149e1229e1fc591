import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset, WeightedRandomSampler

from footplate.data import SampleLoader, batch_plan, build_dataloader, samplers

few = settings(max_examples=20)
sizes, worlds, batch_sizes = st.integers(1, 40), st.integers(1, 8), st.integers(1, 7)


def on_rank(rank: int, world: int, size: int, batch_size: int | None, **section: Any) -> SampleLoader:
    with pytest.MonkeyPatch.context() as patch:
        for module in (samplers, batch_plan):
            patch.setattr(module, "get_rank", lambda: rank)
            patch.setattr(module, "get_world_size", lambda: world)
        sampler = {"type": "DefaultSampler", "shuffle": True, "round_up": False}
        cfg = {"dataset": list(range(size)), "sampler": sampler, "batch_size": batch_size, **section}
        built: SampleLoader = build_dataloader(cfg, seed=3)
        return built


def passes(size: int, world: int, batch_size: int, **where: Any) -> list[list[tuple[list[int], bool]]]:
    """Returns the batches on every rank, and whether they are padding."""
    section = {key: where.pop(key) for key in ("drop_last",) if key in where}
    found = []
    for rank in range(world):
        made = on_rank(rank, world, size, batch_size, **section)
        found.append([(batch, made.is_padding) for batch in made.batches(**where)])
        assert len(found[-1]) == len(made)
    return found


@few
@given(sizes, worlds, batch_sizes)
def test_every_sample_counts_once_and_ranks_have_equally_many_batches(size: int, world: int, batch_size: int) -> None:
    found = passes(size, world, batch_size, epoch=2)
    assert len({len(each) for each in found}) == 1
    seen = [index for each in found for batch, is_padding in each if not is_padding for index in batch]
    assert sorted(seen) == list(range(size))
    (whole,) = passes(size, 1, batch_size * world, epoch=2)
    assert len(found[0]) == len(whole)
    for number, (together, _) in enumerate(whole):
        parts = [each[number] for each in found]
        counted = [batch for batch, is_padding in parts if not is_padding]
        longest = max(map(len, counted))
        order = [batch[at] for at in range(longest) for batch in counted if at < len(batch)]
        assert order == together
        for batch, is_padding in parts:
            assert not is_padding or len(batch) == 1


@few
@given(sizes, worlds, batch_sizes)
def test_drop_last_drops_batches_that_are_not_full_on_every_rank(size: int, world: int, batch_size: int) -> None:
    found = passes(size, world, batch_size, drop_last=True)
    assert {len(each) for each in found} == {size // world // batch_size}
    assert all(len(batch) == batch_size and not is_padding for each in found for batch, is_padding in each)


@pytest.mark.parametrize(
    ("world", "round_up", "drop_last", "uneven"),
    [(1, False, False, False), (2, False, False, True), (2, True, False, False), (2, False, True, False)],
)
def test_uneven_is_set_only_if_needed(world: int, round_up: bool, drop_last: bool, uneven: bool) -> None:
    made = on_rank(0, world, 5, 2, sampler={"type": "DefaultSampler", "round_up": round_up}, drop_last=drop_last)
    assert made.uneven is uneven


class Shaken(Dataset[Any]):
    """Indices, each with random numbers of the generators."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, random.random(), float(np.random.random()), float(torch.rand(()))


def read_together(world: int, size: int, *, round_up: bool, epoch: int) -> list[Any]:
    """Returns the samples of all ranks in global order."""
    sampler = {"type": "DefaultSampler", "shuffle": True, "round_up": round_up}
    section: dict[str, Any] = {"dataset": Shaken(size), "sampler": sampler, "collate_fn": list}
    shares = []
    for rank in range(world):
        made = on_rank(rank, world, size, 3, **section)
        shares.append([sample for batch in made.batches(epoch=epoch) if not made.is_padding for sample in batch])
    longest = max(map(len, shares))
    return [share[at] for at in range(longest) for share in shares if at < len(share)]


@few
@given(st.integers(1, 8), st.integers(1, 50), st.booleans(), st.integers(0, 5))
def test_samples_do_not_depend_on_the_number_of_ranks(world: int, size: int, round_up: bool, epoch: int) -> None:
    whole = read_together(1, size, round_up=False, epoch=epoch)
    found = read_together(world, size, round_up=round_up, epoch=epoch)
    assert found[:size] == whole
    assert [index for index, *_ in found[size:]] == [whole[at % size][0] for at in range(len(found) - size)]
    assert len(found) == (-(-size // world) * world if round_up else size)


def plan_of(sampler: Any, **settings: Any) -> batch_plan.BatchPlan:
    settings = settings or {"batch_size": 2, "sampler": sampler}
    return batch_plan.BatchPlan(DataLoader(range(8), **settings), seed=0, limit=None)  # type: ignore[arg-type]


def test_state_before_a_pass_is_drawn_has_no_batches_of_the_pass_before() -> None:
    sampler = WeightedRandomSampler([1.0] * 8, 8)
    plan = plan_of(sampler)
    plan.begin(0)
    assert len(list(plan.keys(0, is_read=True))) == 4
    sampler.weights[0] = 5.0
    plan.begin(1)
    state = plan.state_dict(1, 0)
    assert (state["drawn"], state["is_exhausted"]) == ([], False)


def test_state_of_a_sampler_that_the_config_no_longer_has_is_not_saved_again() -> None:
    changing = WeightedRandomSampler([1.0] * 8, 8)
    plan = plan_of(changing)
    changing.weights[0] = 5.0
    plan.begin(0)
    next(plan.keys(0, is_read=True))
    state = plan.state_dict(0, 1)
    assert state
    resumed = plan_of(samplers.DefaultSampler(range(8)))
    resumed.load_state_dict(state, 0)
    assert resumed.state_dict(0, 1) == state
    resumed.begin(0)
    assert resumed.state_dict(0, 1) == {}


class StatefulBatches(BatchSampler):
    passes = 0

    def __iter__(self) -> Iterator[list[int]]:
        self.passes += 1
        return super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        return {"passes": self.passes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.passes = state["passes"]


@pytest.mark.parametrize("changed", [False, True])
def test_weights_are_saved_only_if_changed_even_next_to_a_sampler_with_a_state(changed: bool) -> None:
    def make(favourite: int) -> tuple[WeightedRandomSampler, batch_plan.BatchPlan]:
        sampler = WeightedRandomSampler([float(number == favourite) for number in range(8)], 8)
        return sampler, plan_of(None, batch_sampler=StatefulBatches(sampler, 2, drop_last=False))

    sampler, plan = make(3)
    plan.begin(0)
    keys = plan.keys(0, is_read=True)
    next(keys)
    sampler.weights[:] *= 1.0 + changed
    _, resumed = make(5)
    resumed.load_state_dict(plan.state_dict(0, 1), 0)
    resumed.begin(0)
    assert next(resumed.keys(0, 1, is_read=True)).indices == [5, 5]
    assert resumed.batch_sampler.passes == 1
    assert resumed.batch_sampler.sampler.weights.argmax() == (3 if changed else 5)


def test_describing_samples_does_not_change_the_state_of_the_pass() -> None:
    loader = SampleLoader(range(16), batch_size=2, sampler=WeightedRandomSampler([1.0] * 16, 16))
    batches = loader.batches()
    read = [next(batches).tolist(), next(batches).tolist()]
    loader.plan.sampler.weights[0] = 5.0
    state = loader.plan.state_dict(0, 1)
    assert state["drawn"] == [read[1]]
    loader.describe_samples(0, 1)
    assert str(loader.plan.state_dict(0, 1)) == str(state)
