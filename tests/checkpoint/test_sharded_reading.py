import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate.checkpoint import consolidate, load_checkpoint, save_checkpoint, shard, sharded_reading, verify
from footplate.checkpoint.shard_layout import Chunk, read_layout
from footplate.checkpoint.sharded_reading import load_sharded, read_piece, read_tensors
from footplate.distributed import get_rank, wrap_model
from footplate.distributed.sharding import is_dtensor, local_tensor
from footplate.errors import ArgumentError, CheckpointDamagedError
from tests.checkpoint.sharded_examples import example, save
from tests.checkpoint.test_sharded_writing import same
from tests.distributed.conftest import on_ranks  # noqa: F401 - a fixture


@pytest.mark.parametrize("most", [4, 24, 1 << 20])
def test_piece_may_be_a_block_of_a_chunk(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_reading, "_PIECE_BYTES", most)
    stored = torch.arange(20.0).view(5, 4)
    stream = io.BytesIO(b"before" + stored.numpy().tobytes())
    target = torch.zeros(3, 2)
    chunk = Chunk((0, 0), (5, 4), "a.bin", 6)
    read_piece(stream, chunk, torch.float32, [1, 2], target)
    assert target.tolist() == stored[1:4, 2:].tolist()


def test_only_requested_tensors_are_read(folder: Path) -> None:
    layout = read_layout(str(folder))
    asked = next(name for name in layout.tensors if name.endswith(".bias"))
    target = torch.zeros(5, dtype=torch.bfloat16)
    read_tensors(str(folder), layout, {asked: target})
    assert torch.equal(target, example()["state_dict"]["bias"])


def test_truncated_file_is_damaged(folder: Path) -> None:
    layout = read_layout(str(folder))
    path = next(folder.glob("rank_0*"))
    path.write_bytes(path.read_bytes()[:-1])
    targets = {name: torch.zeros(each.size, dtype=each.dtype) for name, each in layout.tensors.items()}
    with pytest.raises(CheckpointDamagedError):
        read_tensors(str(folder), layout, targets)


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
    path = next(folder.glob("rank_1*"))
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
    next(folder.glob("rank_0*")).write_bytes(b"")
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


_WATCHED = """
import mmap, re, sys
from pathlib import Path
import torch.distributed.checkpoint
from footplate.checkpoint import consolidate, shard
from footplate.storage.local_files import DescriptorSink
held = lambda: int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
before, most, write = held(), 0, DescriptorSink.write
def watched(sink, data):
    global most
    most = max(most, held())
    return write(sink, data)
DescriptorSink.write = watched
shard(*sys.argv[1:], 3)
print((most - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is told by Linux")
def test_written_tensors_are_freed(tmp_path: Path) -> None:
    state = {"state_dict": {f"layer{n}": torch.full((1 << 20,), float(n), dtype=torch.float64) for n in range(12)}}
    save_checkpoint(state, tmp_path / "a.pth")  # 96 MiB, in tensors of 8
    command = [sys.executable, "-c", _WATCHED, str(tmp_path / "a.pth"), str(tmp_path / "b.sharded")]
    told = subprocess.run(command, check=True, timeout=100, capture_output=True, text=True)
    assert int(told.stdout) < 24
    assert torch.equal(load_checkpoint(tmp_path / "b.sharded")["state_dict"]["layer7"], state["state_dict"]["layer7"])


_WITH_LITTLE_MEMORY = """
import re, resource, sys
from pathlib import Path
import torch.distributed.checkpoint
from footplate.checkpoint import consolidate, shard
used = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (40 << 20), -1))
work, source, target = sys.argv[1:]
consolidate(source, target) if work == "join" else shard(source, target, 3)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_memory_use_is_less_than_the_checkpoint(tmp_path: Path) -> None:
    state = {"state_dict": {f"layer{n}": torch.full((1 << 20,), float(n), dtype=torch.float64) for n in range(12)}}
    save_checkpoint(state, tmp_path / "a.pth")
    for work, source, target in (("cut", "a.pth", "b.sharded"), ("join", "b.sharded", "c.pth")):
        arguments = [work, str(tmp_path / source), str(tmp_path / target)]
        subprocess.run([sys.executable, "-c", _WITH_LITTLE_MEMORY, *arguments], check=True, timeout=100)
    found = load_checkpoint(tmp_path / "c.pth")["state_dict"]
    assert all(torch.equal(found[name], value) for name, value in state["state_dict"].items())
