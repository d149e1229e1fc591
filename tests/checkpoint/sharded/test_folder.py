from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint.sharded import Part
from footplate.checkpoint.sharded import folder as folders
from footplate.checkpoint.sharded.folder import FolderWriter
from footplate.checkpoint.sharded.layout import digest_of
from footplate.checkpoint.sharded.ownership import clean_unfinished
from footplate.checkpoint.sharded.planning import PartPlanner


def plans_of(count: int) -> list[Any]:
    planners = [PartPlanner({"w": Part(torch.ones(2), (2 * number,), (2 * count,))}) for number in range(count)]
    plans = []
    for planner in planners:
        planner.set_up_planner({}, None, True)
        plans.append(planner.create_local_plan())
    return plans


def test_each_process_and_each_save_has_a_file_of_its_own(tmp_path: Path) -> None:
    writer = FolderWriter(str(tmp_path / "iter_1.sharded"), {})
    names = [plan.storage_data for _ in range(2) for plan in writer.prepare_global_plan(plans_of(3))]
    assert [name.partition("-")[0] for name in names] == ["rank_0", "rank_1", "rank_2"] * 2
    assert len(set(names)) == 6
    assert len({name.partition("-")[2] for name in names[:3]}) == 1  # written by one save


def test_what_was_begun_and_not_finished_goes(tmp_path: Path) -> None:
    for name, inside in (
        ("iter_1.sharded", "rank_0-1.bin"),
        ("iter_2.sharded", "layout.json"),
        ("notes", "layout.txt"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / inside).write_text("")
    (tmp_path / "iter_3.sharded").mkdir()
    removed = clean_unfinished(str(tmp_path), but="iter_3.sharded")
    assert removed == [str(tmp_path / "iter_1.sharded")]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["iter_2.sharded", "iter_3.sharded", "notes"]
    assert clean_unfinished(str(tmp_path / "nothing"), but="") == []


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5, dtype=torch.float64),
        torch.arange(24.0).view(4, 6),
        torch.arange(24).view(4, 6).t(),
        torch.ones(3, 1, 2).bfloat16(),
    ],
)
def test_pieces_are_the_bytes_of_a_tensor_in_order(tensor: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_PIECE_BYTES", 100)
    pieces = [bytes(each) for each in folders._pieces_of(tensor)]
    assert b"".join(pieces) == tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    assert all(len(each) <= 100 for each in pieces)


def test_where_each_tensor_begins_and_what_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "rank_0-1.bin"
    starts, digest = folders._write_tensors(str(path), [torch.ones(3), torch.zeros(2, 2, dtype=torch.float64)])
    assert starts == [0, 12]
    assert digest == (44, digest_of(str(path)))
    assert path.stat().st_size == 44
