import subprocess
import sys
from pathlib import Path

import pytest
import torch

from footplate.checkpoint import consolidate, load_checkpoint, save_checkpoint, shard, verify
from footplate.errors import ArgumentError, CheckpointDamagedError
from tests.checkpoint.sharded.conftest import example
from tests.checkpoint.sharded.test_writing import same


def test_parts_become_a_file_and_parts_again(folder: Path, tmp_path: Path) -> None:
    path, again = tmp_path / "iter_8.pth", tmp_path / "again.sharded"
    assert consolidate(folder, path) == 3
    assert same(load_checkpoint(path), example())
    assert verify(path).digest
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
    with pytest.raises(CheckpointDamagedError, match="is not what was written"):
        shard(tmp_path / "b.pth", tmp_path / "b.sharded", 2)
    assert {each.name for each in tmp_path.iterdir()} == {"iter_8.sharded", "b.pth"}


def test_a_file_is_no_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"ends in \.sharded"):
        consolidate(tmp_path / "a.pth", tmp_path / "b.pth")
    with pytest.raises(ArgumentError, match=r"does not end in \.sharded"):
        shard(folder, tmp_path / "b.sharded", 2)
    with pytest.raises(ArgumentError):
        shard(tmp_path / "a.pth", tmp_path / "b.sharded", 0)


_WATCHED = """
import mmap, re, sys
from pathlib import Path
import torch.distributed.checkpoint
from footplate.checkpoint import consolidate, shard
from footplate.checkpoint.sharded import folder
held = lambda: int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
before, most, write = held(), 0, folder._pieces_of
def watched(tensor):
    global most
    for piece in write(tensor):
        yield piece
        most = max(most, held())
folder._pieces_of = watched
shard(*sys.argv[1:], 3)
print((most - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is told by Linux")
def test_what_is_written_is_forgotten(tmp_path: Path) -> None:
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
def test_memory_holds_less_than_the_checkpoint(tmp_path: Path) -> None:
    state = {"state_dict": {f"layer{n}": torch.full((1 << 20,), float(n), dtype=torch.float64) for n in range(12)}}
    save_checkpoint(state, tmp_path / "a.pth")
    for work, source, target in (("cut", "a.pth", "b.sharded"), ("join", "b.sharded", "c.pth")):
        arguments = [work, str(tmp_path / source), str(tmp_path / target)]
        subprocess.run([sys.executable, "-c", _WITH_LITTLE_MEMORY, *arguments], check=True, timeout=100)
    found = load_checkpoint(tmp_path / "c.pth")["state_dict"]
    assert all(torch.equal(found[name], value) for name, value in state["state_dict"].items())
