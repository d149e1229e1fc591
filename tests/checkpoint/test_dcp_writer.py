import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.storage import WriteResult

from footplate.checkpoint import dcp_writer
from footplate.checkpoint.dcp_writer import FolderWriter, ShardPlanner
from footplate.checkpoint.digest import sha256_of_file
from footplate.checkpoint.sharded_writing import Shard, remove_unfinished
from footplate.storage.local_files import DescriptorSink


def plans_of(count: int) -> list[Any]:
    planners = [ShardPlanner({"w": Shard(torch.ones(2), (2 * number,), (2 * count,))}) for number in range(count)]
    plans = []
    for planner in planners:
        planner.set_up_planner({}, None, True)
        plans.append(planner.create_local_plan())
    return plans


def test_each_process_and_save_has_its_own_file(tmp_path: Path) -> None:
    writer = FolderWriter(str(tmp_path / "iter_1.sharded"), {})
    names = [plan.storage_data for _ in range(2) for plan in writer.prepare_global_plan(plans_of(3))]
    assert [name.partition("-")[0] for name in names] == ["rank_0", "rank_1", "rank_2"] * 2
    assert len(set(names)) == 6
    assert len({name.partition("-")[2] for name in names[:3]}) == 1  # written by one save


def test_unfinished_checkpoints_are_removed(tmp_path: Path) -> None:
    for name, inside in (
        ("iter_1.sharded", "rank_0-1.bin"),
        ("iter_2.sharded", "layout.json"),
        ("notes", "layout.txt"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / inside).write_text("")
    (tmp_path / "iter_3.sharded").mkdir()
    removed = remove_unfinished(str(tmp_path), but="iter_3.sharded")
    assert removed == [str(tmp_path / "iter_1.sharded")]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["iter_2.sharded", "iter_3.sharded", "notes"]
    assert remove_unfinished(str(tmp_path / "nothing"), but="") == []


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5, dtype=torch.float64),
        torch.arange(24.0).view(4, 6),
        torch.arange(24).view(4, 6).t(),
        torch.ones(3, 1, 2).bfloat16(),
    ],
)
def test_shards_are_written_in_pieces_of_limited_size(
    tensor: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[bytes] = []

    def write(_: Any, data: Any) -> int:
        pieces.append(bytes(data))
        return len(data)

    monkeypatch.setattr(dcp_writer, "_PIECE_BYTES", 100)
    monkeypatch.setattr(DescriptorSink, "write", write)
    write_shards(tmp_path, [tensor])
    assert b"".join(pieces) == tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    assert all(len(each) <= 100 for each in pieces)


def test_writer_returns_offsets_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "rank_0-1.bin"
    results = write_shards(tmp_path, [torch.ones(3), torch.zeros(2, 2, dtype=torch.float64)])
    assert [each.storage_data for each in results] == [
        (path.name, start, 44, sha256_of_file(str(path))) for start in (0, 12)
    ]
    assert path.stat().st_size == 44


def write_shards(folder: Path, tensors: list[torch.Tensor]) -> list[WriteResult]:
    shards = {str(n): Shard(each, (0,) * each.dim(), tuple(each.shape)) for n, each in enumerate(tensors)}
    planner = ShardPlanner(shards)
    plan = dataclasses.replace(planner.create_local_plan(), storage_data="rank_0-1.bin")
    return FolderWriter(str(folder), {}).write_data(plan, planner).wait()


def test_plan_has_an_item_for_each_nonempty_shard() -> None:
    planner = ShardPlanner(
        {"w": Shard(torch.ones(2, 3), (4, 0), (9, 3)), "none": Shard(torch.ones(0, 3), (9, 0), (9, 3))}
    )
    planner.set_up_planner({"ignored": 1}, None, False)
    (item,) = planner.create_local_plan().items
    assert (item.index.fqn, tuple(item.index.offset or ())) == ("w", (4, 0))
    assert item.tensor_data is not None
    assert tuple(item.tensor_data.chunk.sizes) == (2, 3)
    assert tuple(item.tensor_data.size) == (9, 3)
    assert torch.equal(planner.resolve_data(item), torch.ones(2, 3))


def test_error_of_a_process_is_raised_in_planning() -> None:
    planner = ShardPlanner({}, MemoryError("no room for a copy"))
    planner.set_up_planner({}, None, True)
    with pytest.raises(MemoryError, match="no room for a copy"):
        planner.create_local_plan()
