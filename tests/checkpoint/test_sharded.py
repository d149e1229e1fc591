from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate.checkpoint import consolidate, load_checkpoint, save_checkpoint, shard, verify
from footplate.checkpoint.sharded import load_sharded
from footplate.distributed import get_rank, wrap_model
from footplate.distributed.sharding import is_dtensor, local_tensor
from footplate.errors import ArgumentError, CheckpointDamagedError
from tests.checkpoint.sharded_examples import example, save
from tests.checkpoint.test_sharded_storage import same
from tests.distributed.conftest import on_ranks  # noqa: F401 - a fixture


def test_shapes_are_read_without_shard_files(folder: Path) -> None:
    for path in folder.glob("rank_*"):
        path.unlink()
    found = load_sharded(str(folder), torch.device("meta"))
    assert found["state_dict"]["weight"].shape == (7, 3)
    with pytest.raises(CheckpointDamagedError, match="rank_0.* is missing"):
        load_sharded(str(folder), torch.device("cpu"))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 7)

    def forward(self, inputs: Any) -> Any:
        return self.layer(inputs)


def held(folder: str, damage: bool) -> Any:
    """Returns the tensors that one of several processes reads from a folder written by other processes."""
    model = wrap_model(Net(), {"type": "FullyShard"})
    try:
        found = load_sharded(folder, torch.device("cpu"), model)
    except CheckpointDamagedError as error:
        return error.message
    weight = found["state_dict"]["weight"]
    assert is_dtensor(weight)
    return get_rank(), local_tensor(weight).tolist(), found["meta"]["iter"], damage


def test_each_process_reads_its_own_shards(tmp_path: Path, on_ranks: Callable[..., list[Any]]) -> None:  # noqa: F811
    folder = save(tmp_path / "iter_8.sharded", count=3)
    rows = example()["state_dict"]["weight"]
    for rank, found in enumerate(on_ranks(2, held, str(folder), False)):
        assert found == (rank, rows.chunk(2)[rank].tolist(), 8, False)


def test_damage_found_by_one_process_is_reported_to_all(
    tmp_path: Path,
    on_ranks: Callable[..., list[Any]],  # noqa: F811
) -> None:
    folder = save(tmp_path / "iter_8.sharded", count=3)
    path = next(folder.glob("rank_0-*-1.distcp"))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    said = on_ranks(2, held, str(folder), True)
    assert said == [f"checkpoint '{folder}' is damaged: {path.name} does not match its checksum"] * 2


def test_shards_become_a_file_and_shards_again(folder: Path, tmp_path: Path) -> None:
    path, again = tmp_path / "iter_8.pth", tmp_path / "again.sharded"
    assert consolidate(folder, path) == 3
    assert same(load_checkpoint(path), example())
    assert verify(path).sha256
    held = torch.load(path, weights_only=True)
    assert held["state_dict"]["tied"].data_ptr() == held["state_dict"]["weight"].data_ptr()
    assert shard(path, again, 4) == 3
    assert same(load_checkpoint(again), example())
    assert len(list(again.glob("rank_*"))) == 4
    assert {each.name for each in tmp_path.iterdir()} == {"iter_8.pth", "iter_8.sharded", "again.sharded"}


def test_damage_is_not_passed_on(folder: Path, tmp_path: Path) -> None:
    next(folder.glob("rank_0-*-0.distcp")).write_bytes(b"")
    with pytest.raises(CheckpointDamagedError, match="rank_0"):
        consolidate(folder, tmp_path / "a.pth")
    save_checkpoint(example(), tmp_path / "b.pth")
    content = bytearray((tmp_path / "b.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "b.pth").write_bytes(content)
    with pytest.raises(CheckpointDamagedError, match="does not match its checksum"):
        shard(tmp_path / "b.pth", tmp_path / "b.sharded", 2)
    assert {each.name for each in tmp_path.iterdir()} == {"iter_8.sharded", "b.pth"}


def test_file_is_not_accepted_as_a_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"must end in \.sharded"):
        consolidate(tmp_path / "a.pth", tmp_path / "b.pth")
    with pytest.raises(ArgumentError, match=r"must not end in \.sharded"):
        shard(folder, tmp_path / "b.sharded", 2)
    with pytest.raises(ArgumentError):
        shard(tmp_path / "a.pth", tmp_path / "b.sharded", 0)
