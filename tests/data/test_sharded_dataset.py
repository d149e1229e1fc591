import re
from pathlib import Path
from typing import Any, NoReturn

import pytest

from footplate.data import LitDataset, WebDataset, build_dataloader
from footplate.data.position import DataPosition
from footplate.data.sharded_dataset import ShardedDataset, StoredSample
from footplate.errors import ArgumentError


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


_NOT_PATHS = (5, True, b"a", ["a"], {"a": "b"})


@pytest.mark.parametrize(
    ("name", "message", "values"),
    [
        (
            "fields",
            "fields must be a dict that maps keys of a record to names in the shards",
            (5, "a", ["a"], {1: "a"}),
        ),
        ("metainfo", "metainfo must be a dict", (5, "a", ["a"])),
        ("cache_dir", "cache_dir must be a path", (None, "", *_NOT_PATHS)),
        ("cache_gb", '"cache_gb" must be a finite number above 0', (None, 0, "a", ["a"], {"a": 1})),
        ("ignore_index", "ignore_index must be an integer", (None, True, 1.5, "a", ["a"], {"a": 1})),
        ("reduce_zero_label", "reduce_zero_label must be True or False", (None, 1, "no", ["a"], {"a": 1})),
        ("indices", "indices must be an integer or a list of integers", (True, 1.5, "a", ["a"], {"a": 1}, object)),
        ("serialize_data", "serialize_data must be True or False", (None, 1, "no", ["a"], {"a": 1})),
        ("test_mode", "test_mode must be True or False", (None, 1, "no", ["a"], {"a": 1})),
        ("lazy_init", "lazy_init must be True or False", (None, 1, "no", ["a"], {"a": 1})),
        ("max_refetch", "max_refetch must be an integer of at least 0", (None, -1, "a", ["a"], {"a": 1})),
        ("keep_in_memory", "keep_in_memory must be the number of leading transforms", (1.5, "a", ["a"], {"a": 1})),
        ("on_error", "on_error must be one of stop, skip", (None, 5, "a", ["a"], {"a": 1})),
    ],
)
def test_an_argument_of_a_wrong_type_is_an_error(name: str, message: str, values: tuple[Any, ...]) -> None:
    for value in values:
        expected = re.escape(message) + f".*\n  key {name}\n  found: {re.escape(repr(value))}"
        with pytest.raises(ArgumentError, match=expected):
            Stored(**{name: value})


@pytest.mark.parametrize("value", _NOT_PATHS)
def test_a_root_that_is_no_path_is_an_error(value: Any, tmp_path: Path) -> None:
    for kind, path in ((WebDataset, "a.tar"), (LitDataset, str(tmp_path))):
        with pytest.raises(ArgumentError, match="data_root must be a path\n  key data_root\n  found:"):
            kind(path, data_root=value)
    with pytest.raises(ArgumentError, match="folder must be a path\n  key folder\n  found:"):
        LitDataset(value)


def test_classes_must_be_a_list() -> None:
    with pytest.raises(ArgumentError, match="classes must be a list of names\n  key metainfo.classes\n  found: 5"):
        Stored(metainfo={"classes": 5})
    assert "num_classes" not in Stored(metainfo={"classes": None})[0]
    assert Stored(metainfo={"classes": list("abcdefgh")})[0]["num_classes"] == 8
