import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate.checkpoint.sharded import reading
from footplate.checkpoint.sharded.layout import Chunk, read_layout
from footplate.checkpoint.sharded.planning import Piece
from footplate.checkpoint.sharded.reading import fill, load_parts, load_parts_like
from footplate.distributed import get_rank, wrap_model
from footplate.distributed.sharding import is_dtensor, local_tensor
from footplate.errors import CheckpointDamagedError
from tests.checkpoint.sharded.conftest import example, save
from tests.distributed.conftest import on_ranks  # noqa: F401 - a fixture


@pytest.mark.parametrize("most", [4, 24, 1 << 20])
def test_a_piece_may_be_rows_and_columns_of_a_chunk(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PIECE_BYTES", most)
    stored = torch.arange(20.0).view(5, 4)
    stream = io.BytesIO(b"before" + stored.numpy().tobytes())
    target = torch.zeros(3, 2)
    chunk = Chunk((0, 0), (5, 4), "a.bin", 6)
    reading._read_piece(stream, Piece("w", chunk, torch.float32, (1, 2), (3, 2), target))
    assert target.tolist() == stored[1:4, 2:].tolist()


def test_only_what_is_asked_for_is_read(folder: Path) -> None:
    layout = read_layout(str(folder))
    asked = next(name for name in layout.tensors if name.endswith(".bias"))
    target = torch.zeros(5, dtype=torch.bfloat16)
    fill(str(folder), layout, {asked: target})
    assert torch.equal(target, example()["state_dict"]["bias"])


def test_a_file_that_is_cut_off_is_damaged(folder: Path) -> None:
    layout = read_layout(str(folder))
    path = next(folder.glob("rank_0*"))
    path.write_bytes(path.read_bytes()[:-1])
    targets = {name: torch.zeros(each.size, dtype=each.dtype) for name, each in layout.tensors.items()}
    with pytest.raises(CheckpointDamagedError):
        fill(str(folder), layout, targets)


def test_shapes_alone_need_no_files_of_parts(folder: Path) -> None:
    for path in folder.glob("rank_*"):
        path.unlink()
    found = load_parts(str(folder), torch.device("meta"))
    assert found["state_dict"]["weight"].shape == (7, 3)
    with pytest.raises(CheckpointDamagedError, match="it lacks rank_0"):
        load_parts(str(folder), torch.device("cpu"))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 7)

    def forward(self, inputs: Any) -> Any:
        return self.layer(inputs)


def held(folder: str, damage: bool) -> Any:
    """Returns what one of several processes reads from a folder that other processes wrote."""
    model = wrap_model(Net(), {"type": "FullyShard"})
    try:
        found = load_parts_like(folder, model, torch.device("cpu"))
    except CheckpointDamagedError as error:
        return error.message
    weight = found["state_dict"]["weight"]
    assert is_dtensor(weight)
    return get_rank(), local_tensor(weight).tolist(), found["meta"]["iter"], damage


def test_each_process_reads_its_own_part(tmp_path: Path, on_ranks: Callable[..., list[Any]]) -> None:  # noqa: F811
    folder = save(tmp_path / "iter_8.sharded", count=3)
    rows = example()["state_dict"]["weight"]
    for rank, found in enumerate(on_ranks(2, held, str(folder), False)):
        assert found == (rank, rows.chunk(2)[rank].tolist(), 8, False)


def test_damage_that_one_process_finds_is_told_to_all(
    tmp_path: Path,
    on_ranks: Callable[..., list[Any]],  # noqa: F811
) -> None:
    folder = save(tmp_path / "iter_8.sharded", count=3)
    path = next(folder.glob("rank_1*"))
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    said = on_ranks(2, held, str(folder), True)
    assert said == [f"checkpoint '{folder}' is damaged: {path.name} is not what was written"] * 2
