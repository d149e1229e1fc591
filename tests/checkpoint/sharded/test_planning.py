import pytest
import torch

from footplate.checkpoint.sharded import Part
from footplate.checkpoint.sharded.layout import Chunk, Tensors
from footplate.checkpoint.sharded.planning import PartPlanner, pieces_for


def test_what_a_process_holds_becomes_items_but_nothing_that_is_empty() -> None:
    planner = PartPlanner({"w": Part(torch.ones(2, 3), (4, 0), (9, 3)), "none": Part(torch.ones(0, 3), (9, 0), (9, 3))})
    planner.set_up_planner({"ignored": 1}, None, False)
    (item,) = planner.create_local_plan().items
    assert (item.index.fqn, tuple(item.index.offset or ())) == ("w", (4, 0))
    assert item.tensor_data is not None
    assert tuple(item.tensor_data.chunk.sizes) == (2, 3)
    assert tuple(item.tensor_data.size) == (9, 3)
    assert torch.equal(planner.resolve_data(item), torch.ones(2, 3))


def test_what_kept_a_process_from_its_parts_comes_out_in_planning() -> None:
    planner = PartPlanner({}, MemoryError("no room for a copy"))
    planner.set_up_planner({}, None, True)
    with pytest.raises(MemoryError, match="no room for a copy"):
        planner.create_local_plan()


def test_a_whole_target_is_filled_by_a_piece_of_each_part() -> None:
    chunks = [Chunk((0, 0), (2, 3), "a.bin", 0), Chunk((2, 0), (1, 3), "b.bin", 24)]
    target = torch.zeros(3, 3)
    pieces = list(pieces_for({"w": target}, {"w": Tensors(torch.float32, (3, 3), chunks), "other": None}))  # type: ignore[dict-item]
    assert [(each.chunk.file, each.offsets, each.lengths) for each in pieces] == [
        ("a.bin", (0, 0), (2, 3)),
        ("b.bin", (0, 0), (1, 3)),
    ]
    for number, piece in enumerate(pieces):
        piece.target.fill_(number + 1)
    assert target.tolist() == [[1.0] * 3, [1.0] * 3, [2.0] * 3]
