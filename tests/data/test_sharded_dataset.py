from typing import Any, NoReturn

import pytest

from footplate.data import build_dataloader
from footplate.data.position import DataPosition
from footplate.data.sharded_dataset import ShardedDataset, StoredSample


class Stored(ShardedDataset):
    """A dataset that does not override `shard_list`."""

    def load_data_list(self) -> Any:
        return [(0, number) for number in range(8)]

    def read_sample(self, *entry: Any) -> StoredSample:
        return StoredSample("a.bin", str(entry[1]), {"gt_label": entry[1]}, {})


def position(dataset: ShardedDataset) -> DataPosition:
    sampler = {"type": "DefaultSampler", "shuffle": True}
    return DataPosition(build_dataloader({"dataset": dataset, "batch_size": 2, "sampler": sampler}, seed=5))


def test_a_subclass_need_not_list_its_shards() -> None:
    assert Stored().digest is None
    state = position(Stored()).state_dict(3)
    assert position(Stored()).load_state_dict(state, 3) == 3


def test_no_digest_is_computed_if_the_checkpoint_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def shard_list(self: ShardedDataset) -> NoReturn:
        raise AssertionError("the shards are listed")

    state = {**position(Stored()).state_dict(3), "dataset": None}
    monkeypatch.setattr(Stored, "shard_list", shard_list)
    assert position(Stored()).load_state_dict(state, 3) == 3
